// SPDX-License-Identifier: Apache-2.0
#include "apps/reporting/html.h"
#include "support/support.h"

using namespace sextant::apps;

TEST_CASE("base64 of the vectors of RFC 4648") {
  const auto of = [](std::string_view text) {
    return base64({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  };
  CHECK(of("").empty());
  CHECK(of("f") == "Zg==");
  CHECK(of("fo") == "Zm8=");
  CHECK(of("foo") == "Zm9v");
  CHECK(of("foob") == "Zm9vYg==");
  CHECK(of("fooba") == "Zm9vYmE=");
  CHECK(of("foobar") == "Zm9vYmFy");
  CHECK(of("\xff\xff\xfe") == "///+");
}

TEST_CASE("text from outside cannot leave its place on a page") {
  HtmlBody body;
  const std::string bad = "<script>\"'&";
  body.heading(bad);
  body.table({bad}, {{bad}});
  body.facts({{bad, bad}});
  body.folded(bad, bad);
  body.figures({{"image/png", {1}, bad, false}});
  const std::string page = html_page(bad, body);
  CHECK(page.find("<script>") == std::string::npos);
  CHECK(page.find("&lt;script&gt;&quot;&#39;&amp;") != std::string::npos);
}
