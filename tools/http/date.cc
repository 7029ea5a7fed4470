#include "tools/http/date.h"

#include <time.h>

#include <algorithm>

#include "absl/time/civil_time.h"
#include "absl/time/time.h"

namespace weft::http {
namespace {

void PutTwo(char* at, int value) {
  at[0] = static_cast<char>('0' + value / 10 % 10);
  at[1] = static_cast<char>('0' + value % 10);
}

}  // namespace

void AppendHttpDate(int64_t seconds, std::string& out) {
  static constexpr char kDays[] = "MonTueWedThuFriSatSun";
  static constexpr char kMonths[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
  // Not gmtime_r(): it takes a lock that the whole process shares.
  const absl::CivilSecond civil = absl::CivilSecond(1970, 1, 1) + seconds;
  const int day = static_cast<int>(absl::GetWeekday(civil));  // 0 is Monday
  const int year = static_cast<int>(std::clamp<absl::civil_year_t>(civil.year(), 0, 9999));
  char text[] = "Ddd, 00 Mmm 0000 00:00:00 GMT";
  static_assert(sizeof(text) - 1 == kHttpDateSize);
  std::copy_n(kDays + 3 * day, 3, text);
  PutTwo(text + 5, civil.day());
  std::copy_n(kMonths + 3 * (civil.month() - 1), 3, text + 8);
  PutTwo(text + 12, year / 100);
  PutTwo(text + 14, year % 100);
  PutTwo(text + 17, civil.hour());
  PutTwo(text + 20, civil.minute());
  PutTwo(text + 23, civil.second());
  out.append(text, kHttpDateSize);
}

bool ParseHttpDate(absl::string_view text, int64_t& seconds) {
  for (const char* form : {"%a, %d %b %Y %H:%M:%S GMT",  // IMF-fixdate
                           "%A, %d-%b-%y %H:%M:%S GMT",  // RFC 850
                           "%a %b %e %H:%M:%S %Y"}) {    // asctime()
    absl::Time time;
    if (!absl::ParseTime(form, text, &time, nullptr)) continue;
    // absl takes "infinite-past" for a date too.
    if (time == absl::InfiniteFuture() || time == absl::InfinitePast()) return false;
    seconds = absl::ToUnixSeconds(time);
    return true;
  }
  return false;
}

int64_t NowSeconds() {
  timespec now;
  clock_gettime(CLOCK_REALTIME_COARSE, &now);
  return now.tv_sec;
}

}  // namespace weft::http
