"""One run, from spec to record: the only place where the stages meet."""

from __future__ import annotations

import torch

from peftbench.methods._keeping import keep
from peftbench.record import Record
from peftbench.seeding import stream_seed
from peftbench.spec import Resources, RunSpec
from peftbench.stages import Progress, Stages, first_epoch, quiet, require_fitting, split
from peftbench.store import Store, write_lines
from peftbench.tasks._task import sample
from peftbench.workbench import Workbench


def execute(spec: RunSpec, resources: Resources, store: Store, bench: Workbench, progress: Progress = quiet) -> Record:
    """Do one run and publish its record. A fault in any phase is recorded with its phase and not raised.

    Raises:
        StoreProblem: the store cannot be written, so that no record can tell of the run.
    """
    folder = store.begin(spec, resources)
    stages = Stages(spec, resources, folder, progress)
    try:
        stages.enter("data")
        task = bench.task(spec.task, resources)
        stages.told(task)
        train_items = bench.items(spec.task, "train", spec.rows.limit, resources) if spec.rows else []
        wanted = spec.evaluate.split == "test"
        test_items = bench.items(spec.task, "test", spec.evaluate.limit, resources) if wanted else []

        stages.enter("model")
        base = bench.base(spec.base, resources)
        method = bench.method(spec.method, resources)
        training, answering = stages.rooms(base, method.virtual_tokens)
        learned, held_out = split(spec, train_items)
        shots = stages.shots(method, learned, base, answering)
        if spec.train is not None:
            # All at once, for their ids are kept together: another seed holds out others.
            bench.ask(spec.task, train_items, training)
            require_fitting(bench.ask(spec.task, learned, training), spec.train.max_length)

        stages.enter("attach")
        torch.manual_seed(stream_seed(spec.seed or 0, "init"))
        first = first_epoch(spec, bench.ask(spec.task, learned, training)) if method.looks_first else ()
        with bench.attached(method, first, to_merge=bool(spec.evaluate.merged)) as adapter:
            stages.count(adapter)
            if spec.train is not None:
                stages.enter("fit")
                stages.fit(adapter, bench, *(bench.ask(spec.task, part, training) for part in (learned, held_out)))

            stages.enter("predict")
            validation_items = [held_out[place] for place in sample(len(held_out), spec.evaluate.limit)]
            asked = [bench.ask(spec.task, items, answering, shots) for items in (validation_items, test_items)]
            validation = stages.predict(adapter, base, asked[0], "validation")
            test = stages.predict(adapter, base, asked[1], "test")

            stages.enter("judge")
            write_lines(folder.predictions, [*validation.rows, *test.rows])
            predictions = [*stages.judge(task, validation), *stages.judge(task, test)]

            stages.enter("save")
            write_lines(folder.predictions, predictions)
            if spec.train is not None and resources.save_adapter:
                folder.adapter.mkdir()
                keep(adapter, base, folder.adapter, spec.evaluate.precision)
            if resources.probe_updates:
                stages.probe_updates(adapter, base, test if wanted else validation)
            # After all else: no first step of training waits for it, and it can spoil nothing.
            stages.count_flops("attached", adapter.module, base, bench.flops)
            stages.ask_merged(adapter, base, task)
        stages.count_flops("base", base.model, base, bench.flops)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the one place where any fault becomes an outcome
        stages.fail(error)
        bench.drop_base()
    record = stages.record()
    store.put(record)
    return record
