"""How fast models run on this machine, beside what a user would take instead.

    from benchmarks.models.report import markdown
    from benchmarks.models.runner import SpeedOptions, bench

    report = bench(SpeedOptions(models=("lcr_nano",), against=("x3d_m",), ways=("all",)))
    print(markdown(report))

`benchmarks.timing` times calls in turns; `peers` has the other models; `ways` runs a model
eager, compiled, exported or in bfloat16; `lengths` is the cost over length. The command is
`videorwkv bench`.
"""
