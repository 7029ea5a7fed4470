"""Programs made at random."""

def _random_programs_impl(ctx):
    output = ctx.actions.declare_file(ctx.label.name + ".cc")
    ctx.actions.run_shell(
        inputs = [ctx.file.generator],
        outputs = [output],
        command = "exec python3 %s --seed=%s --count=%s --output=%s" % (
            ctx.file.generator.path,
            ctx.var.get("weft_random_seed", str(ctx.attr.seed)),
            ctx.var.get("weft_random_count", str(ctx.attr.count)),
            output.path,
        ),
        mnemonic = "RandomPrograms",
        use_default_shell_env = True,
    )
    return [DefaultInfo(files = depset([output]))]

random_programs = rule(
    implementation = _random_programs_impl,
    doc = """\
A C++ file with programs of generate_programs.py. --define=weft_random_seed=N makes others, and
--define=weft_random_count=N more.""",
    attrs = {
        "count": attr.int(mandatory = True),
        "generator": attr.label(allow_single_file = True, mandatory = True),
        "seed": attr.int(default = 1),
    },
)
