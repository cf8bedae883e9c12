//! Random numbers of the system.

use rand::{TryRng, rngs::SysRng};
use zeroize::Zeroizing;

/// The system gives no random numbers.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the system gives no random numbers")]
pub struct NoRandomNumbers;

/// An id that no other process or rotation has: 64 random bits in hex.
pub(crate) fn random_id() -> Result<String, NoRandomNumbers> {
    Ok(format!("{:016x}", u64::from_be_bytes(*random_bytes::<8>()?)))
}

/// Bytes of a key.
pub(crate) fn random_bytes<const N: usize>() -> Result<Zeroizing<[u8; N]>, NoRandomNumbers> {
    let mut bytes = Zeroizing::new([0; N]);
    SysRng.try_fill_bytes(bytes.as_mut()).map_err(|_| NoRandomNumbers)?;
    Ok(bytes)
}
