#include "spawn/pipeline.h"

#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "spawn/command_testing.h"
#include "spawn/testing.h"

namespace weft::spawn::testing {
namespace {

using ::testing::HasSubstr;

class PipelineTest : public CommandTest {};

IN_ALL_WORLDS(PipelineTest);

TEST_P(PipelineTest, Pipelines) {
  Run([] {
    std::vector<Command> commands;
    commands.emplace_back("cat", std::vector<std::string>(),
                          CommandOptions{.in = Input::Bytes("b\na\nb\n")});
    commands.emplace_back("sort");
    commands.emplace_back("uniq", std::vector<std::string>{"-c"});
    const CommandResult result = Pipeline(std::move(commands)).Output();
    EXPECT_TRUE(result.ok()) << result.status;
    EXPECT_EQ(result.out, "      1 a\n      2 b\n");

    // The end decides when to stop; that the others cannot write on is no failure.
    commands.clear();
    commands.emplace_back("yes");
    commands.emplace_back("head", std::vector<std::string>{"-n", "2"});
    EXPECT_EQ(Pipeline(std::move(commands)).Output().out, "y\ny\n");

    // The last of those that failed.
    commands.clear();
    commands.push_back(Shell("exit 3"));
    commands.push_back(Shell("cat; exit 4"));
    commands.emplace_back("cat");
    EXPECT_EQ(Pipeline(std::move(commands)).Run().message(), "exit status 4");

    commands.clear();
    commands.emplace_back("yes");
    commands.emplace_back("weft-no-such-program");
    EXPECT_THAT(std::string(Pipeline(std::move(commands)).Run().message()),
                HasSubstr("executable file not found"));
    EXPECT_TRUE(weft::testing::Eventually([] { return !HasChildren(); }));
    EXPECT_EQ(Pipeline({}).Run().message(), "exec: empty pipeline");
  });
}

}  // namespace
}  // namespace weft::spawn::testing
