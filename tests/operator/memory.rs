//! What Secrets of others cost the operator at start.

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api, CustomResourceExt,
    api::{ObjectMeta, PostParams},
};
use vncpassword_core::api::VncPassword;

use super::process::Cluster;

const MIB: u64 = 1 << 20;
/// The chart's limit is three times this.
const BOUND: u64 = 80 * MIB;

/// Name and namespace of a Secret, and the length of its annotation.
async fn create(client: kube::Client, (namespace, name, length): (String, String, usize)) {
    let annotations = [("others.example/notes".to_owned(), "x".repeat(length))];
    let metadata =
        ObjectMeta { name: Some(name), annotations: Some(annotations.into()), ..ObjectMeta::default() };
    let secrets: Api<Secret> = Api::namespaced(client, &namespace);
    secrets.create(&PostParams::default(), &Secret { metadata, ..Secret::default() }).await.unwrap();
}

/// 500 Secrets with 240 KiB of annotations each; before them stand so many small ones that the pages of the list have grown.
#[tokio::test(flavor = "multi_thread")]
async fn large_secrets_of_others_cost_little_memory() {
    const SMALL: usize = 1200;
    const LARGE: usize = 240 << 10;
    let cluster = Cluster::start(serde_json::to_value(VncPassword::crd()).unwrap()).await;
    let namespaces: Vec<String> =
        std::iter::once("few".to_owned()).chain((0..25).map(|number| format!("many{number}"))).collect();
    for name in &namespaces {
        let metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
        let namespace = Namespace { metadata, ..Namespace::default() };
        Api::all(cluster.client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
    }
    let small = (0..SMALL).map(|number| ("few".to_owned(), format!("s{number:04}"), 10));
    let large = namespaces[1..]
        .iter()
        .flat_map(|namespace| (0..20).map(|number| (namespace.clone(), format!("s{number:02}"), LARGE)));
    let secrets: Vec<_> = small.chain(large).collect();
    stream::iter(secrets).for_each_concurrent(8, |secret| create(cluster.client.clone(), secret)).await;
    for watched in [String::new(), namespaces.join(",")] {
        let program = cluster.program_for(&watched).await;
        let peak = program.peak_memory();
        #[allow(clippy::print_stdout, reason = "the figure that the limit is about")]
        {
            println!("peak memory with {watched:?}: {} MiB", peak >> 20);
        }
        assert!(peak < BOUND, "{watched:?}: {} MiB", peak >> 20);
        program.end().await;
    }
}
