//! How long a screen has been stable; a blinking cursor does not count as a change.

use std::time::Duration;

use maqet_domain::picture::Ppm;
use tokio::time::Instant;

/// The largest cursor, in pixels: a cell of text at twice the usual size.
const CURSOR: (usize, usize) = (18, 32);

/// The recent pictures of a screen.
///
/// A screen is stable while it shows one picture, or two that alternate and differ by no more than a cursor. A picture
/// after which the previous one does not return, as when a letter appears, is a change.
#[derive(Debug)]
pub(crate) struct ScreenStability {
    /// The current picture.
    now: Vec<u8>,
    /// Since when it has been shown without interruption.
    now_since: Instant,
    /// The previous picture, if it differs by a cursor only.
    other: Option<Vec<u8>>,
    /// Since when one of the two has been shown.
    since: Instant,
    /// Whether the two alternate.
    blinks: bool,
}

impl ScreenStability {
    /// Starts with a picture, in PPM.
    pub(crate) fn new(picture: Vec<u8>, at: Instant) -> Self {
        Self { now: picture, now_since: at, other: None, since: at, blinks: false }
    }

    /// Adds the next picture.
    pub(crate) fn push(&mut self, picture: Vec<u8>, at: Instant) {
        if picture == self.now {
            return;
        }
        let before = std::mem::replace(&mut self.now, picture);
        let before_since = std::mem::replace(&mut self.now_since, at);
        if self.other.as_ref() == Some(&self.now) {
            self.blinks = true;
            self.other = Some(before);
            return;
        }
        self.blinks = false;
        if differ_by_a_cursor(&before, &self.now) {
            (self.other, self.since) = (Some(before), before_since);
        } else {
            (self.other, self.since) = (None, at);
        }
    }

    /// Returns how long the screen has been stable at `at`.
    pub(crate) fn stable_for(&self, at: Instant) -> Duration {
        at.saturating_duration_since(if self.blinks { self.since } else { self.now_since })
    }
}

fn differ_by_a_cursor(one: &[u8], other: &[u8]) -> bool {
    match (Ppm::parse(one), Ppm::parse(other)) {
        (Some(one), Some(other)) => one.difference(&other).is_some_and(|(width, height)| {
            let (max_width, max_height) = CURSOR;
            width <= max_width && height <= max_height
        }),
        (_, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a black picture of 100 by 100 with white in a rectangle: left, top, width, height.
    fn picture(white: [usize; 4]) -> Vec<u8> {
        let [left, top, width, height] = white;
        let mut pixels = vec![0; 100 * 100 * 3];
        for row in top..top + height {
            pixels[(row * 100 + left) * 3..][..width * 3].fill(255);
        }
        [b"P6\n100 100\n255\n".as_slice(), &pixels].concat()
    }

    const NOTHING: [usize; 4] = [0; 4];
    const CURSOR_HERE: [usize; 4] = [27, 14, 9, 2];
    const CURSOR_THERE: [usize; 4] = [54, 14, 9, 2];
    const LINE: [usize; 4] = [0, 0, 60, 16];

    /// Checks for how many seconds the screen is stable one second after the last of these pictures, one a second.
    #[track_caller]
    fn check(pictures: &[[usize; 4]], expected: u64) {
        let start = Instant::now();
        let at = |index: usize| start + Duration::from_secs(index as u64);
        let mut stability = ScreenStability::new(picture(pictures[0]), at(0));
        for (index, white) in pictures.iter().enumerate().skip(1) {
            stability.push(picture(*white), at(index));
        }

        assert_eq!(stability.stable_for(at(pictures.len())), Duration::from_secs(expected), "{pictures:?}");
    }

    #[test]
    fn test_stability_one_picture_is_stable() {
        check(&[LINE, LINE, LINE], 3);
        check(&[NOTHING, LINE, LINE], 2);
    }

    #[test]
    fn test_stability_blinking_cursor_is_stable() {
        check(&[NOTHING, CURSOR_HERE, NOTHING, CURSOR_HERE], 4);
        check(&[LINE, NOTHING, CURSOR_HERE, CURSOR_HERE, NOTHING], 4);
    }

    #[test]
    fn test_stability_picture_that_does_not_return_is_a_change() {
        check(&[NOTHING, CURSOR_HERE], 1);
        check(&[NOTHING, CURSOR_HERE, CURSOR_THERE], 1);
        check(&[NOTHING, CURSOR_HERE, NOTHING, CURSOR_THERE], 1);
        check(&[NOTHING, CURSOR_HERE, NOTHING, CURSOR_THERE, NOTHING], 3);
    }

    #[test]
    fn test_stability_large_alternating_difference_is_a_change() {
        check(&[NOTHING, LINE, NOTHING, LINE], 1);
    }
}
