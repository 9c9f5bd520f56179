//! Civil time from seconds since 1970 and back, in the proleptic Gregorian calendar.

/// Seconds in a day.
pub(super) const SECONDS_PER_DAY: i64 = 86_400;

const DAYS_PER_400_YEARS: i64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01.
const EPOCH: i64 = 719_468;

/// A date and a time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DateTime {
    pub(super) year: i64,
    /// 1 to 12.
    pub(super) month: i64,
    /// 1 to 31.
    pub(super) day: i64,
    /// 0 to 23.
    pub(super) hour: i64,
    /// 0 to 59.
    pub(super) minute: i64,
    /// 0 to 59.
    pub(super) second: i64,
    /// 0 = Sunday; ignored by [`Self::to_unix`].
    pub(super) weekday: i64,
}

impl DateTime {
    /// The date of `seconds` since 1970. Years are counted from March, so that the leap day comes last.
    pub(super) fn from_unix(seconds: i64) -> Self {
        let (days, of_day) = (seconds.div_euclid(SECONDS_PER_DAY), seconds.rem_euclid(SECONDS_PER_DAY));
        let shifted = days + EPOCH;
        let (era, of_era) = (shifted.div_euclid(DAYS_PER_400_YEARS), shifted.rem_euclid(DAYS_PER_400_YEARS));
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - days_before(year_of_era);
        let march_month = (5 * of_year + 2) / 153;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        Self {
            year: 400 * era + year_of_era + i64::from(month <= 2),
            month,
            day: of_year - (153 * march_month + 2) / 5 + 1,
            hour: of_day / 3600,
            minute: of_day / 60 % 60,
            second: of_day % 60,
            weekday: (days + 4).rem_euclid(7),
        }
    }

    /// Seconds since 1970. A day behind its month's end counts on into the next.
    pub(super) fn to_unix(self) -> i64 {
        let year = self.year - i64::from(self.month <= 2);
        let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let march_month = (self.month + 9) % 12;
        let of_year = (153 * march_month + 2) / 5 + self.day - 1;
        let days = DAYS_PER_400_YEARS * era + days_before(year_of_era) + of_year - EPOCH;
        days * SECONDS_PER_DAY + self.hour * 3600 + self.minute * 60 + self.second
    }
}

/// Days of the 400-year era before its year `year`.
fn days_before(year: i64) -> i64 {
    365 * year + year / 4 - year / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates() {
        for (unix, date, weekday) in [
            (0, (1970, 1, 1), 4),
            (951_782_400, (2000, 2, 29), 2),
            (1_709_164_800, (2024, 2, 29), 4),
            (4_107_542_400, (2100, 3, 1), 1),
            (-86_400, (1969, 12, 31), 3),
        ] {
            let t = DateTime::from_unix(unix);
            assert_eq!(((t.year, t.month, t.day), t.weekday), (date, weekday), "{unix}");
        }
    }

    #[test]
    fn every_day_of_eight_centuries_goes_there_and_back() {
        let mut last = DateTime::from_unix(-SECONDS_PER_DAY * 146_098);
        for day in -146_097..146_097 {
            let unix = day * SECONDS_PER_DAY + 12_345;
            let t = DateTime::from_unix(unix);
            assert_eq!(t.to_unix(), unix);
            let next_day = (t.year, t.month, t.day) > (last.year, last.month, last.day);
            assert!(next_day && t.weekday == (last.weekday + 1) % 7, "{last:?} {t:?}");
            last = t;
        }
    }
}
