//! Enforces NetworkPolicies, as the network of a cluster does: an engine for it cannot be had as a Go module or a Debian package.
//!
//! Each Pod that a policy selects may only receive, or send, what some policy allows. The node reaches every Pod, as the
//! probes of a kubelet must. A named port in an egress rule and IPv6 are not known here, and allow nothing.

use std::{collections::BTreeMap, fmt::Write, sync::mpsc, thread, time::Duration};

use futures::{StreamExt, stream::select_all};
use k8s_openapi::{
    api::{
        core::v1::{Namespace, Pod},
        networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort},
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use kube::{
    Api, Client, ResourceExt,
    core::{Selector, SelectorExt},
    runtime::{WatchStreamExt, reflector, watcher},
};

use super::cluster::pipe;

/// What the rules are made of.
struct View {
    pods: Vec<Pod>,
    namespaces: BTreeMap<String, BTreeMap<String, String>>,
    policies: Vec<NetworkPolicy>,
}

/// Enforces all policies from now on until this process ends. Returns once the first rules are in force.
pub fn enforce() {
    let (ready, first) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(follow(ready));
    });
    first.recv_timeout(Duration::from_secs(30)).expect("the rules of the network could not be set");
}

async fn follow(ready: mpsc::Sender<()>) {
    let client = Client::try_default().await.unwrap();
    let (pods, pod_events) = watched::<Pod>(&client);
    let (namespaces, namespace_events) = watched::<Namespace>(&client);
    let (policies, policy_events) = watched::<NetworkPolicy>(&client);
    let mut events = select_all([pod_events, namespace_events, policy_events]);
    let mut known = 0;
    let mut last = String::new();
    while let Some(listed) = events.next().await {
        known += usize::from(listed);
        // An empty cluster would forbid nothing.
        if known < 3 {
            continue;
        }
        let rules = rules(&View {
            pods: pods.state().iter().map(|pod| (**pod).clone()).collect(),
            namespaces: namespaces.state().iter().map(|it| (it.name_any(), it.labels().clone())).collect(),
            policies: policies.state().iter().map(|policy| (**policy).clone()).collect(),
        });
        if rules != last {
            pipe("nft", "-f -", &rules);
            last = rules;
        }
        // Nobody listens after the first.
        let _ = ready.send(());
    }
}

/// What is there, and a stream with an item at each change; `true`: all that was there is known now.
fn watched<K>(client: &Client) -> (reflector::Store<K>, futures::stream::BoxStream<'static, bool>)
where
    K: kube::Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let (store, writer) = reflector::store();
    let events = watcher(Api::<K>::all(client.clone()), watcher::Config::default()).default_backoff();
    let events = events
        .reflect(writer)
        .filter_map(async |event| Some(matches!(event.ok()?, watcher::Event::InitDone)));
    (store, events.boxed())
}

/// The table of the packet filter.
fn rules(view: &View) -> String {
    let (mut ingress, mut egress) = (String::new(), String::new());
    for pod in &view.pods {
        let Some(address) = address(pod) else { continue };
        let policies = view.policies.iter().filter(|policy| applies(policy, pod));
        let policies: Vec<_> = policies.filter_map(|policy| Some((policy, policy.spec.as_ref()?))).collect();
        let isolated = |direction: &str| {
            let mut types = policies.iter().flat_map(|(_, spec)| spec.policy_types.iter().flatten());
            types.any(|known| known == direction)
        };
        if isolated("Ingress") {
            let this = format!("ip daddr {address}");
            for (policy, spec) in &policies {
                for rule in spec.ingress.iter().flatten() {
                    let peers = peers(view, policy, rule.from.as_deref(), "saddr");
                    allow(&mut ingress, &this, &peers, &ports(rule.ports.as_deref(), Some(pod)));
                }
            }
            writeln!(ingress, "    {this} counter drop").unwrap();
        }
        if isolated("Egress") {
            let this = format!("ip saddr {address}");
            for (policy, spec) in &policies {
                for rule in spec.egress.iter().flatten() {
                    let peers = peers(view, policy, rule.to.as_deref(), "daddr");
                    allow(&mut egress, &this, &peers, &ports(rule.ports.as_deref(), None));
                }
            }
            writeln!(egress, "    {this} counter drop").unwrap();
        }
    }
    let established = "    ct state established,related accept";
    format!(
        "table ip policies\ndelete table ip policies\ntable ip policies {{\n  chain out {{\n{established}\n{egress}  }}\n  \
         chain in {{\n{established}\n{ingress}  }}\n  \
         chain forward_out {{ type filter hook forward priority 10; policy accept; jump out; }}\n  \
         chain forward_in {{ type filter hook forward priority 11; policy accept; jump in; }}\n  \
         chain to_node {{ type filter hook input priority 10; policy accept; jump out; }}\n}}\n"
    )
}

fn allow(rules: &mut String, pod: &str, peers: &[String], ports: &[String]) {
    for peer in peers {
        for port in ports {
            writeln!(rules, "    {pod} {peer} {port} accept").unwrap();
        }
    }
}

/// The address of a Pod with a network of its own that has not ended.
fn address(pod: &Pod) -> Option<&str> {
    let status = pod.status.as_ref()?;
    let own = pod.spec.as_ref().is_none_or(|spec| spec.host_network != Some(true));
    let alive = matches!(status.phase.as_deref(), Some("Pending" | "Running"));
    status.pod_ip.as_deref().filter(|_| own && alive)
}

fn applies(policy: &NetworkPolicy, pod: &Pod) -> bool {
    let selector = policy.spec.as_ref().and_then(|spec| spec.pod_selector.as_ref());
    policy.namespace() == pod.namespace() && selector.is_none_or(|selector| selects(selector, pod.labels()))
}

fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    Selector::try_from(selector.clone()).unwrap().matches(labels)
}

/// Matches of the packets from or to the peers of a rule. A rule that names none means everybody.
fn peers(
    view: &View,
    policy: &NetworkPolicy,
    peers: Option<&[NetworkPolicyPeer]>,
    side: &str,
) -> Vec<String> {
    match peers {
        None | Some([]) => vec![String::new()],
        Some(peers) => peers.iter().flat_map(|peer| addresses(view, policy, peer, side)).collect(),
    }
}

fn addresses(view: &View, policy: &NetworkPolicy, peer: &NetworkPolicyPeer, side: &str) -> Vec<String> {
    if let Some(block) = &peer.ip_block {
        if block.cidr.contains(':') {
            return Vec::new();
        }
        let except = block.except.iter().flatten().filter(|range| !range.contains(':'));
        let except = except.fold(String::new(), |all, range| format!("{all} ip {side} != {range}"));
        return vec![format!("ip {side} {}{except}", block.cidr)];
    }
    let nowhere = BTreeMap::new();
    let meant = |pod: &&Pod| {
        let namespace = pod.namespace().unwrap_or_default();
        let there = match &peer.namespace_selector {
            Some(selector) => selects(selector, view.namespaces.get(&namespace).unwrap_or(&nowhere)),
            None => policy.namespace() == Some(namespace),
        };
        there && peer.pod_selector.as_ref().is_none_or(|selector| selects(selector, pod.labels()))
    };
    view.pods.iter().filter(meant).filter_map(address).map(|address| format!("ip {side} {address}")).collect()
}

/// Matches of the packets to the ports of a rule. A rule that names none means all. `target`: whose ports have names.
fn ports(ports: Option<&[NetworkPolicyPort]>, target: Option<&Pod>) -> Vec<String> {
    match ports {
        None | Some([]) => vec![String::new()],
        Some(ports) => ports.iter().flat_map(|port| numbers(port, target)).collect(),
    }
}

fn numbers(port: &NetworkPolicyPort, target: Option<&Pod>) -> Vec<String> {
    let protocol = port.protocol.as_deref().unwrap_or("TCP").to_lowercase();
    match (&port.port, port.end_port) {
        (None, _) => vec![format!("meta l4proto {protocol}")],
        (Some(IntOrString::Int(first)), Some(last)) => vec![format!("{protocol} dport {first}-{last}")],
        (Some(IntOrString::Int(number)), None) => vec![format!("{protocol} dport {number}")],
        (Some(IntOrString::String(name)), _) => {
            let containers = target.and_then(|pod| pod.spec.as_ref()).map(|spec| spec.containers.as_slice());
            let known =
                containers.unwrap_or_default().iter().flat_map(|container| container.ports.iter().flatten());
            let named = known.filter(|port| port.name.as_ref() == Some(name));
            named.map(|port| format!("{protocol} dport {}", port.container_port)).collect()
        }
    }
}
