// One expression a format. None has a character that JSON would escape.
#include "grammar/string_formats.h"

namespace hearth {
namespace {

#define HEARTH_YEAR "(000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})"
#define HEARTH_LEAP_YEAR \
  "([0-9]{2}(0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)"  // year 0 is none of Python's
#define HEARTH_DATE                                                                      \
  "(" HEARTH_YEAR                                                                        \
  "\\-((0[13578]|1[02])\\-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)\\-(0[1-9]|[12][0-9]|30)|" \
  "02\\-(0[1-9]|1[0-9]|2[0-8]))|" HEARTH_LEAP_YEAR "\\-02\\-29)"
#define HEARTH_TIME "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?(Z|[+\\-]([01][0-9]|2[0-3]):[0-5][0-9])"
#define HEARTH_LABEL "[A-Za-z][A-Za-z0-9]{0,15}(\\-[A-Za-z0-9]{1,15}){0,2}"
#define HEARTH_HOST HEARTH_LABEL "(\\." HEARTH_LABEL "){0,3}"
#define HEARTH_BYTE "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
#define HEARTH_URI_CHAR "([A-Za-z0-9._~!$&'()*+,;=:@\\-]|%[0-9A-F]{2})"

struct Format {
  std::string_view name, regex;
};
constexpr Format kFormats[] = {
    {"date", HEARTH_DATE},
    {"time", HEARTH_TIME},
    {"date-time", HEARTH_DATE "T" HEARTH_TIME},
    {"duration",
     "P([0-9]{1,4}W|([0-9]{1,4}Y([0-9]{1,4}M([0-9]{1,4}D)?)?|[0-9]{1,4}M([0-9]{1,4}D)?|[0-9]{1,4}D)(T([0-9]{1,4}H([0-9]"
     "{1,"
     "4}M([0-9]{1,4}S)?)?|[0-9]{1,4}M([0-9]{1,4}S)?|[0-9]{1,4}S))?|T([0-9]{1,4}H([0-9]{1,4}M([0-9]{1,4}S)?)?|[0-9]{1,4}"
     "M("
     "[0-9]{1,4}S)?|[0-9]{1,4}S))"},
    {"email", "[A-Za-z0-9_+]{1,16}([.\\-][A-Za-z0-9_+]{1,16}){0,2}@" HEARTH_LABEL "(\\." HEARTH_LABEL "){1,3}"},
    {"hostname", HEARTH_HOST},
    {"ipv4", HEARTH_BYTE "(\\." HEARTH_BYTE "){3}"},
    {"ipv6",
     "(([0-9a-f]{1,4}:){7}[0-9a-f]{1,4}|([0-9a-f]{1,4}:){1,7}:|([0-9a-f]{1,4}:){1,6}:[0-9a-f]{1,4}|([0-9a-f]{1,4}:){1,"
     "5}(:["
     "0-9a-f]{1,4}){1,2}|([0-9a-f]{1,4}:){1,4}(:[0-9a-f]{1,4}){1,3}|([0-9a-f]{1,4}:){1,3}(:[0-9a-f]{1,4}){1,4}|([0-9a-"
     "f]{1,"
     "4}:){1,2}(:[0-9a-f]{1,4}){1,5}|[0-9a-f]{1,4}:(:[0-9a-f]{1,4}){1,6}|:((:[0-9a-f]{1,4}){1,7}|:))"},
    {"uuid", "[0-9a-fA-F]{8}\\-[0-9a-fA-F]{4}\\-[0-9a-fA-F]{4}\\-[0-9a-fA-F]{4}\\-[0-9a-fA-F]{12}"},
    {"uri", "[a-z][a-z0-9]{0,15}://" HEARTH_HOST "(:[1-9][0-9]{0,4})?(/" HEARTH_URI_CHAR "*)*(\\?(" HEARTH_URI_CHAR
            "|/)*)?(#(" HEARTH_URI_CHAR "|/)*)?"},
};

}  // namespace

std::string_view format_regex(std::string_view format) {
  for (const Format& one : kFormats) {
    if (one.name == format) return one.regex;
  }
  return {};
}

}  // namespace hearth
