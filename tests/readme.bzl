"""A README's example as a program, so that the page cannot be wrong."""

load("//stack:defs.bzl", "weft_cc_binary")

def weft_readme_example(deps, prints = None, readme = "README.md", name = "readme", block = 1):
    """Builds :readme_example from the first ```cpp block of the package's README.md.

    Args:
      deps: what the example includes
      prints: what it prints, if it ends: then :readme_test runs it with 1, 2 and 4 Ps, and wants this
        on its standard output, exit status 0, and the text on the page
      readme: the page
      name: what the targets' names begin with, for further examples of a package
      block: which of the page's ```cpp blocks, from 1
    """
    native.genrule(
        name = name + "_example_source",
        srcs = [readme],
        outs = [name + "_example.cc"],
        cmd = "awk -v block=%d '/^```cpp$$/ { on = ++n == block; next } /^```$$/ { on = 0 } on' $< > $@" % block,
    )
    weft_cc_binary(
        name = name + "_example",
        testonly = True,
        srcs = [":%s_example_source" % name],
        deps = deps,
    )
    if prints != None:
        native.sh_test(
            name = name + "_test",
            size = "small",
            srcs = ["//tests:readme_test.sh"],
            args = [
                "$(location :%s_example)" % name,
                "$(location %s)" % readme,
                "'%s'" % prints,
            ],
            data = [
                ":%s_example" % name,
                readme,
            ],
        )
