// page.html, as it was at build time.
#include "server/page.h"

#include "base/embed.h"

HEARTH_EMBED(page, HEARTH_PAGE)

namespace hearth {

std::string_view built_in_page() { return embedded::page(); }

}  // namespace hearth
