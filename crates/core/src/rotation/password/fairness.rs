//! Whether each password that the rule allows is drawn as often as any other: a chi-square test, and unfair generators
//! to show that it would tell.

use rand::{RngExt, SeedableRng, TryRng, rngs::SmallRng};

use super::{ALPHABET, LENGTH, Password};

/// Characters in each class: upper case, lower case, digits.
const SIZES: [u64; 3] = [26, 26, 10];

const DRAWS: u32 = 200_000;

/// A fair generator gets past this with about one seed in 100,000.
const THRESHOLD: f64 = 6.0;

type Characters = [u8; LENGTH];

fn class(character: u8) -> usize {
    match character {
        b'A'..=b'Z' => 0,
        b'a'..=b'z' => 1,
        _ => 2,
    }
}

fn has_all_classes(characters: Characters) -> bool {
    (0..SIZES.len()).all(|wanted| characters.iter().any(|character| class(*character) == wanted))
}

/// How many strings over an alphabet hold something of each wanted class, by inclusion and exclusion: those that hold
/// the other classes, less those among them that lack the first.
fn strings(alphabet: u64, wanted: &[u64], length: u32) -> u64 {
    match wanted {
        [] => alphabet.pow(length),
        [first, others @ ..] => strings(alphabet, others, length) - strings(alphabet - first, others, length),
    }
}

fn passwords() -> u64 {
    strings(62, &SIZES, 6)
}

/// How many passwords have a given character of this class at a given place: the five others hold the other classes.
fn passwords_with(class: usize) -> u64 {
    let mut others = SIZES.to_vec();
    others.remove(class);
    strings(62, &others, 5)
}

/// Each way to spread classes over the places, as a number of base 3, and how many passwords are spread so.
fn patterns() -> impl Iterator<Item = (usize, u64)> {
    (0..3_usize.pow(6)).filter_map(|pattern| {
        let classes = [1, 3, 9, 27, 81, 243].map(|power| pattern / power % 3);
        let allowed = (0..3).all(|class| classes.contains(&class));
        allowed.then(|| (pattern, classes.map(|class| SIZES[class]).iter().product()))
    })
}

fn pattern_of(characters: Characters) -> usize {
    characters.iter().rev().fold(0, |pattern, character| pattern * 3 + class(*character))
}

/// How far counts are from what is expected, in standard deviations of a fair generator's chi-square. Each cell is the
/// count and how many of all passwords belong to it.
#[allow(clippy::cast_precision_loss, reason = "all of these numbers are far below 2^53")]
fn deviation(cells: &[(u32, u64)]) -> f64 {
    let squares = cells.iter().map(|(count, share)| {
        let expected = f64::from(DRAWS) * *share as f64 / passwords() as f64;
        (f64::from(*count) - expected).powi(2) / expected
    });
    let degrees = (cells.len() - 1) as f64;
    (squares.sum::<f64>() - degrees) / (2.0 * degrees).sqrt()
}

/// The greatest deviation in what a generator draws: of the characters at each of the six places, and of the classes
/// at all places together.
fn misfit(mut draw: impl FnMut(&mut SmallRng) -> Characters) -> f64 {
    let mut random = SmallRng::seed_from_u64(1);
    let mut at_place = [[0; 256]; LENGTH];
    let mut of_pattern = [0; 729];
    for _ in 0..DRAWS {
        let characters = draw(&mut random);
        assert!(has_all_classes(characters));
        for (counts, character) in at_place.iter_mut().zip(characters) {
            counts[usize::from(character)] += 1;
        }
        of_pattern[pattern_of(characters)] += 1;
    }
    let places = at_place.iter().map(|counts| {
        let cell = |character: u8| (counts[usize::from(character)], passwords_with(class(character)));
        deviation(&ALPHABET.map(cell))
    });
    let patterns: Vec<_> = patterns().map(|(pattern, share)| (of_pattern[pattern], share)).collect();
    places.fold(deviation(&patterns), f64::max)
}

/// What the operator does.
fn fair(random: &mut SmallRng) -> Characters {
    let Ok(password) = Password::draw(|bytes| random.try_fill_bytes(bytes));
    password.0
}

/// Takes all bytes: the first eight characters come five times in 256 instead of four.
fn remainder_of_any_byte(random: &mut SmallRng) -> Characters {
    loop {
        let characters = random.random::<Characters>().map(|byte| ALPHABET[usize::from(byte) % 62]);
        if has_all_classes(characters) {
            return characters;
        }
    }
}

/// One of each class and three of any, in this order.
fn one_of_each(random: &mut SmallRng) -> Characters {
    [0..26, 26..52, 52..62, 0..62, 0..62, 0..62].map(|range| ALPHABET[random.random_range(range)])
}

/// Each place changes with any: 6^6 equally likely ways do not fall evenly on 6! orders.
fn one_of_each_badly_shuffled(random: &mut SmallRng) -> Characters {
    let mut characters = one_of_each(random);
    for place in 0..LENGTH {
        characters.swap(place, random.random_range(0..LENGTH));
    }
    characters
}

/// A right shuffle does not help: passwords with several of a class come out too seldom or too often.
fn one_of_each_well_shuffled(random: &mut SmallRng) -> Characters {
    let mut characters = one_of_each(random);
    for place in (1..LENGTH).rev() {
        characters.swap(place, random.random_range(0..=place));
    }
    characters
}

/// What lacks a class gets one of it somewhere, instead of being thrown away.
fn mended(random: &mut SmallRng) -> Characters {
    let mut characters = [(); LENGTH].map(|()| ALPHABET[random.random_range(0..62)]);
    while !has_all_classes(characters) {
        let better = one_of_each(random);
        let lacking = better
            .iter()
            .find(|better| !characters.iter().any(|character| class(*character) == class(**better)));
        characters[random.random_range(0..LENGTH)] = *lacking.unwrap();
    }
    characters
}

#[test]
fn what_is_expected_adds_up() {
    assert_eq!(passwords(), 33_294_892_800);
    assert_eq!(patterns().map(|(_, share)| share).sum::<u64>(), passwords());
    let characters = ALPHABET.iter().map(|character| passwords_with(class(*character)));
    assert_eq!(characters.sum::<u64>(), passwords());
    assert_eq!(pattern_of(*b"aAAAA0"), 1 + 2 * 243);
}

#[test]
fn every_password_is_as_likely_as_any_other() {
    let misfit = misfit(fair);
    assert!(misfit < THRESHOLD, "{misfit}");
}

#[test]
fn unfair_generators_are_caught() {
    type Draw = fn(&mut SmallRng) -> Characters;
    let table: [(&str, Draw); 4] = [
        ("the remainder of any byte", remainder_of_any_byte),
        ("one of each, badly shuffled", one_of_each_badly_shuffled),
        ("one of each, well shuffled", one_of_each_well_shuffled),
        ("mended", mended),
    ];
    for (name, draw) in table {
        let misfit = misfit(draw);
        assert!(misfit > THRESHOLD, "{name}: {misfit}");
    }
}
