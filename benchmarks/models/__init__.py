"""How fast models run on this machine, beside what a user would take instead.

    from benchmarks.models.runner import BenchOptions, bench

    report = bench(BenchOptions(models=("lcr_nano",), against=("x3d_m",), ways=("all",)))
    print(report.markdown())

`videorwkv.inference.timing` times calls in turns; `peers` has the other models; `ways` runs a model
eager, compiled, exported or in bfloat16; `lengths` is the cost over length. The command is
`videorwkv bench`.
"""
