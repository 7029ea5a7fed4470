#include "tools/http/conditions.h"

#include <gtest/gtest.h>

namespace weft::http {
namespace {

constexpr char kBefore[] = "Sun, 06 Nov 1994 08:49:36 GMT";
constexpr char kAt[] = "Sun, 06 Nov 1994 08:49:37 GMT";
constexpr char kAfter[] = "Sun, 06 Nov 1994 08:49:38 GMT";
constexpr Validators kFile = {"\"v,1\"", 784111777};

TEST(ConditionsTest, ProceedsWithoutAny) {
  EXPECT_EQ(CheckPreconditions(Request(), kFile), Precondition::kProceed);
}

TEST(ConditionsTest, IfNoneMatchComparesWeakly) {
  for (const char* field :
       {"\"v,1\"", "W/\"v,1\"", "\"a\", \"v,1\"", "\"a\",W/\"v,1\"", "*", ", \"v,1\""}) {
    Request request;
    request.if_none_match = field;
    EXPECT_EQ(CheckPreconditions(request, kFile), Precondition::kNotModified) << field;
  }
  for (const char* field : {"\"v\"", "v,1", "\"v,1", "w/\"v,1\"", "\"a\" x \"v,1\""}) {
    Request request;
    request.if_none_match = field;
    EXPECT_EQ(CheckPreconditions(request, kFile), Precondition::kProceed) << field;
  }
}

TEST(ConditionsTest, IfNoneMatchOverridesIfModifiedSince) {
  Request request;
  request.if_none_match = "\"other\"";
  request.if_modified_since = kAfter;
  EXPECT_EQ(CheckPreconditions(request, kFile), Precondition::kProceed);
}

TEST(ConditionsTest, IfModifiedSinceComparesSeconds) {
  Request request;
  request.if_modified_since = kBefore;
  EXPECT_EQ(CheckPreconditions(request, kFile), Precondition::kProceed);
  request.if_modified_since = kAt;
  EXPECT_EQ(CheckPreconditions(request, kFile), Precondition::kNotModified);
  request.if_modified_since = kAfter;
  EXPECT_EQ(CheckPreconditions(request, kFile), Precondition::kNotModified);
  request.if_modified_since = "yesterday";
  EXPECT_EQ(CheckPreconditions(request, kFile), Precondition::kProceed);
}

TEST(ConditionsTest, IfMatchComparesStronglyAndComesFirst) {
  Request request;
  request.if_match = "\"v,1\"";
  EXPECT_EQ(CheckPreconditions(request, kFile), Precondition::kProceed);
  request.if_none_match = "\"v,1\"";
  EXPECT_EQ(CheckPreconditions(request, kFile), Precondition::kNotModified);
  request.if_match = "W/\"v,1\"";
  EXPECT_EQ(CheckPreconditions(request, kFile), Precondition::kFailed);
  request.if_match = "*";
  request.if_none_match = {};
  EXPECT_EQ(CheckPreconditions(request, kFile), Precondition::kProceed);
}

TEST(ConditionsTest, IfUnmodifiedSinceFailsWhereTheFileIsNewer) {
  Request request;
  request.if_unmodified_since = kBefore;
  EXPECT_EQ(CheckPreconditions(request, kFile), Precondition::kFailed);
  request.if_unmodified_since = kAt;
  EXPECT_EQ(CheckPreconditions(request, kFile), Precondition::kProceed);
  request.if_unmodified_since = kBefore;
  request.if_match = "\"v,1\"";
  EXPECT_EQ(CheckPreconditions(request, kFile), Precondition::kProceed);
}

TEST(ConditionsTest, IfRangeWantsTheVeryState) {
  Request request;
  EXPECT_TRUE(RangeIsFresh(request, kFile));
  request.has_if_range = true;
  EXPECT_FALSE(RangeIsFresh(request, kFile));  // it came twice
  for (const char* field : {"\"v,1\"", kAt}) {
    request.if_range = field;
    EXPECT_TRUE(RangeIsFresh(request, kFile)) << field;
  }
  for (const char* field : {"W/\"v,1\"", "\"v\"", "*", kBefore, kAfter, "\"v,1\", \"w\""}) {
    request.if_range = field;
    EXPECT_FALSE(RangeIsFresh(request, kFile)) << field;
  }
}

}  // namespace
}  // namespace weft::http
