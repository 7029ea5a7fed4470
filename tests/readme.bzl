"""A README's example as a program, so that the page cannot be wrong."""

load("//stack:defs.bzl", "weft_cc_binary")

def weft_readme_example(deps, prints = None, readme = "README.md"):
    """Builds :readme_example from the first ```cpp block of the package's README.md.

    Args:
      deps: what the example includes
      prints: what it prints, if it ends: then :readme_test runs it with 1, 2 and 4 Ps, and wants this
        on its standard output, exit status 0, and the text on the page
      readme: the page
    """
    native.genrule(
        name = "readme_example_source",
        srcs = [readme],
        outs = ["readme_example.cc"],
        cmd = "sed -n '/^```cpp$$/,/^```$$/{ /^```$$/q; /^```/d; p }' $< > $@",
    )
    weft_cc_binary(
        name = "readme_example",
        testonly = True,
        srcs = [":readme_example_source"],
        deps = deps,
    )
    if prints != None:
        native.sh_test(
            name = "readme_test",
            size = "small",
            srcs = ["//tests:readme_test.sh"],
            args = [
                "$(location :readme_example)",
                "$(location %s)" % readme,
                "'%s'" % prints,
            ],
            data = [
                ":readme_example",
                readme,
            ],
        )
