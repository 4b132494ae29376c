//! The progress that `qemu-img -p` prints: `    (12.34/100%)`, each time after a carriage return (7.2, 10.0,
//! `util/qemu-progress.c`).

/// All of the work, in hundredths of a percent.
pub(super) const WHOLE: u64 = 10_000;

/// How much of the end of the output is searched; one report has less than 25 bytes.
const SEARCHED_BYTES: usize = 64;

/// Returns the last share in the output so far, in hundredths of a percent.
pub(super) fn last_share(printed: &[u8]) -> Option<u64> {
    let end = &printed[printed.len().saturating_sub(SEARCHED_BYTES)..];
    let text = String::from_utf8_lossy(end);
    let (before, _) = text.rsplit_once("/100%)")?;
    let (_, number) = before.rsplit_once('(')?;
    let (whole, hundredths) = number.split_once('.')?;
    let hundredths: u64 = hundredths.parse().ok().filter(|_| hundredths.len() == 2)?;
    let share = whole.trim().parse::<u64>().ok()?.checked_mul(100)?.checked_add(hundredths)?;
    Some(share.min(WHOLE))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn test_last_share_is_that_of_the_last_report() {
        assert_eq!(last_share(b"    (0.00/100%)\r"), Some(0));
        assert_eq!(last_share(b"    (0.00/100%)\r    (12.34/100%)\r"), Some(1_234));
        assert_eq!(last_share(b"    (12.34/100%)\r    (13.5"), Some(1_234));
        assert_eq!(last_share(b"    (100.00/100%)\r\n"), Some(WHOLE));
        assert_eq!(last_share(&[b"x".repeat(200), b"(99.99/100%)\r".to_vec()].concat()), Some(9_999));
    }

    #[test]
    fn test_last_share_of_other_output_is_none() {
        for printed in ["", "Image resized.\n", "(/100%)", "(1/100%)", "(1.5/100%)", "(-1.00/100%)", "1.00/100%)"] {
            assert_eq!(last_share(printed.as_bytes()), None, "{printed}");
        }
        assert_eq!(last_share(b"(99999999999999999999.00/100%)"), None);
    }

    proptest! {
        #[test]
        fn test_last_share_any_bytes_do_not_panic(printed in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(last_share(&printed).is_none_or(|share| share <= WHOLE));
        }
    }
}
