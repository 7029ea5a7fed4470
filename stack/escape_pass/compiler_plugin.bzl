"""A plugin of the compiler as an input of the compilations, and links, that load it."""

def _compiler_plugin_impl(ctx):
    # It is built for the machine that compiles, and appears among the files of the machine that is
    # compiled for, where $(BINDIR) finds it.
    plugin = ctx.actions.declare_file(ctx.label.name + ".so")
    ctx.actions.symlink(output = plugin, target_file = ctx.file.plugin)
    linker_inputs = []
    if ctx.attr.at_link_time:
        linker_inputs.append(cc_common.create_linker_input(
            owner = ctx.label,
            additional_inputs = depset([plugin]),
            user_link_flags = depset(["-Wl,--load-pass-plugin=" + plugin.path]),
        ))
    return [
        DefaultInfo(files = depset([plugin])),
        CcInfo(
            compilation_context = cc_common.create_compilation_context(
                headers = depset([plugin]),
            ),
            linking_context = cc_common.create_linking_context(
                linker_inputs = depset(linker_inputs),
            ),
        ),
    ]

compiler_plugin = rule(
    implementation = _compiler_plugin_impl,
    doc = """\
Makes a shared object an input of the compilation of every cc_* target that has this one among its
`deps`. As Bazel has no such thing, it goes by as a header: headers are inputs of compilations, and
those that a compilation then names in its list of dependencies (clang's -fdepfile-entry=) make it be
repeated when they change. Targets name it as $(BINDIR)/PACKAGE/NAME.so in their copts.""",
    attrs = {
        "at_link_time": attr.bool(doc = "whether the linker, lld, is to load it too"),
        "plugin": attr.label(
            allow_single_file = True,
            cfg = "exec",
            mandatory = True,
        ),
    },
)
