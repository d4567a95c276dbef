"""One run, from spec to record: the only place where the stages meet."""

from __future__ import annotations

import torch

from peftbench.record import Record
from peftbench.seeding import stream_seed
from peftbench.spec import Resources, RunSpec
from peftbench.stages import Progress, Stages, quiet
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
        train_items = bench.items(spec.task, "train", spec.train.limit, resources) if spec.train else []
        wanted = spec.evaluate.split == "test"
        test_items = bench.items(spec.task, "test", spec.evaluate.limit, resources) if wanted else []

        stages.enter("model")
        base = bench.base(spec.base, resources)
        method = bench.method(spec.method, resources)
        training, answering = stages.rooms(base, method.virtual_tokens)
        questions, held_out = stages.split(bench.ask(spec.task, train_items, training))

        stages.enter("attach")
        torch.manual_seed(stream_seed(spec.seed or 0, "init"))
        with bench.attached(method, to_merge=bool(spec.evaluate.merged)) as adapter:
            stages.count(adapter)
            if spec.train is not None:
                stages.enter("fit")
                stages.fit(adapter, base, questions, held_out)

            stages.enter("predict")
            validation_items = [held_out[place].item for place in sample(len(held_out), spec.evaluate.limit)]
            validation = stages.predict(adapter, base, bench.ask(spec.task, validation_items, answering), "validation")
            test = stages.predict(adapter, base, bench.ask(spec.task, test_items, answering), "test")

            stages.enter("judge")
            write_lines(folder.predictions, [*validation.rows, *test.rows])
            predictions = [*stages.judge(task, validation), *stages.judge(task, test)]

            stages.enter("save")
            write_lines(folder.predictions, predictions)
            if spec.train is not None and resources.save_adapter:
                folder.adapter.mkdir()
                method.save(adapter.module, base, folder.adapter)
            if resources.probe_updates:
                stages.probe_updates(adapter, base, test if wanted else validation)
            # After all else: no first step of training waits for it, and it can spoil nothing.
            stages.count_flops("attached", adapter.module, base, bench.flops)
            if spec.evaluate.merged:
                stages.enter("merge")
                stages.ask_merged(method, adapter, base, task)
        stages.count_flops("base", base.model, base, bench.flops)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the one place where any fault becomes an outcome
        stages.fail(error)
        bench.drop_base()
    record = stages.record()
    store.put(record)
    return record
