/// Returns a hash that is the same in every build and on every host (FNV-1a, 64 bits), to compare and to name files.
///
/// It is no protection: two texts with one hash are easily made.
///
/// ```
/// assert_eq!(maqet_domain::text::stable_hash(b"a"), 0xaf63_dc4c_8601_ec8c);
/// ```
pub fn stable_hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
