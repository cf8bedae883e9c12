//! Tests of tables.

use super::*;

fn table() -> Table {
    let mut table = Table::new(vec![
        Column::new("NAME"),
        Column::expendable("INSTANCE", 2),
        Column::expendable("AGE", 1).right(),
        Column::new("WHY"),
    ]);
    table.row(["db-1", "i-bp1", "3d", "all is well"].map(str::to_owned).into());
    let why = "the ECS API denied\nthe call for 实例 i-bp2";
    table.row(["db-22", "i-bp2", "12h", why].map(str::to_owned).into());
    table
}

#[test]
fn in_a_pipe_nothing_is_cut() {
    assert_eq!(
        table().text(None),
        "\
NAME    INSTANCE   AGE   WHY
db-1    i-bp1       3d   all is well
db-22   i-bp2      12h   the ECS API denied the call for 实例 i-bp2
"
    );
}

#[test]
fn on_a_terminal_the_last_column_is_cut_then_columns_are_left_out() {
    assert_eq!(
        table().text(Some(50)),
        "\
NAME    INSTANCE   AGE   WHY
db-1    i-bp1       3d   all is well
db-22   i-bp2      12h   the ECS API denied the c…
"
    );
    assert_eq!(
        table().text(Some(40)),
        "\
NAME    AGE   WHY
db-1     3d   all is well
db-22   12h   the ECS API denied the ca…
"
    );
    assert_eq!(
        table().text(Some(20)),
        "\
NAME    WHY
db-1    all is well
db-22   the ECS API den…
"
    );
}

#[test]
fn a_table_that_goes_on_keeps_its_columns() {
    let columns = || vec![Column::new("NAME"), Column::expendable("AGE", 1), Column::new("WHY")];
    let one = |cells: [&str; 3]| {
        let mut table = Table::new(columns());
        table.row(cells.map(str::to_owned).into());
        table
    };
    let (text, mut layout) = one(["a", "3d", ""]).begun(Some(30));
    assert_eq!(text, "NAME   AGE   WHY\na      3d\n");
    let mut more = |cells| one(cells).continued(&mut layout, Some(30));
    assert_eq!(more(["a", "0s", "the ECS API denied the call"]), "a      0s    the ECS API deni…\n");
    assert_eq!(more(["db-22", "0s", ""]), "db-22   0s\n", "wider by one");
    assert_eq!(more(["a", "1s", ""]), "a       1s\n", "and it stays so");
    // Where there is no room for a reason later, a column is left out from the beginning.
    let (text, mut layout) = one(["a", "3d", ""]).begun(Some(25));
    assert_eq!(text, "NAME   WHY\na\n");
    let more = one(["a", "0s", "the ECS API denied the call"]).continued(&mut layout, Some(25));
    assert_eq!(more, "a      the ECS API denie…\n");
}

#[test]
fn a_mark_is_a_colour_and_changes_no_word() {
    let mut table = Table::new(vec![Column::new("NAME"), Column::new("WHY")]);
    table.marked(vec!["a".to_owned(), "denied".to_owned()], Mark::Bad);
    assert_eq!(table.painted(None, true), "NAME   WHY\n\x1b[31ma      denied\x1b[0m\n");
    assert_eq!(table.painted(None, false), table.text(None));
}

#[test]
fn no_line_is_wider_than_the_terminal_where_that_can_be() {
    for width in 24..120 {
        for line in table().text(Some(width)).lines() {
            assert!(line.width() <= width, "{width}: {line}");
        }
    }
}
