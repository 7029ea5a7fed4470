#include "debug/http/text.h"

#include <limits>
#include <string>

#include "gtest/gtest.h"

namespace weft::debug::internal {
namespace {

TEST(TextTest, HtmlHasNoMarkupFromOutside) {
  EXPECT_EQ(EscapeHtml("<a href=\"x\">'&</a>"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;&lt;/a&gt;");
  Html html;
  html.Markup("<td>").Text("<script>").Markup("</td>").Text(7);
  EXPECT_EQ(html.text(), "<td>&lt;script&gt;</td>7");
}

TEST(TextTest, WhatIsNoUtf8IsReplaced) {
  const std::string bad = "\xef\xbf\xbd";
  EXPECT_EQ(ToUtf8("a\tb\nc"), "a\tb\nc");
  EXPECT_EQ(ToUtf8("\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"),
            "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80");
  EXPECT_EQ(ToUtf8("\xff"), bad);
  EXPECT_EQ(ToUtf8("\xc3"), bad);            // cut off
  EXPECT_EQ(ToUtf8("\xc0\xaf"), bad + bad);  // longer than need be
  EXPECT_EQ(ToUtf8("\xe0\x80\xaf"), bad + bad + bad);
  EXPECT_EQ(ToUtf8("\xed\xa0\x80"), bad + bad + bad);            // a surrogate
  EXPECT_EQ(ToUtf8("\xf4\x90\x80\x80"), bad + bad + bad + bad);  // beyond the last
  EXPECT_EQ(ToUtf8(std::string("a\0b\x1b\x7f", 5)), "a" + bad + "b" + bad + bad);
}

TEST(TextTest, JsonIsEscapedAndSeparated) {
  Json json;
  json.BeginObject().Key("a\"b").BeginArray().Int(1).Int(-2).BeginArray().EndArray().EndArray();
  json.Key("c").String("x\\\n\t<").Key("d").Bool(true).Key("e").BeginObject().EndObject();
  json.Key("f").Number(0.25).Key("g").Number(std::numeric_limits<double>::infinity()).EndObject();
  EXPECT_EQ(json.text(),
            "{\"a\\\"b\":[1,-2,[]],\"c\":\"x\\\\\\n\\t<\",\"d\":true,\"e\":{},\"f\":0.25,\"g\":0}");
}

}  // namespace
}  // namespace weft::debug::internal
