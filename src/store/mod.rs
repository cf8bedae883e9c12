//! The state of the cluster, from the watches.
//!
//! | file | content |
//! |---|---|
//! | `object` | trimmed types of objects, fleets, Secrets and Nodes |
//! | `registry` | all objects: indexes, claims, memory |
//! | `fleets` | all fleets, with memory |
//! | `secrets` | versions of Secrets; reads and writes their contents |
//! | `nodes` | instances of Nodes |
//! | `namespaces` | which namespaces can be read |
//! | `discovered` | the last discovery of a fleet |
//! | `list_watch` | lists in pages of bounded size, then watches |

pub(crate) mod discovered;
pub(crate) mod fleets;
pub(crate) mod list_watch;
pub(crate) mod namespaces;
pub(crate) mod nodes;
pub(crate) mod object;
pub(crate) mod registry;
pub(crate) mod secrets;
