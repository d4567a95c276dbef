"""Drawn values of every kind that is read or written, for the property tests."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from peftbench import record as records
from peftbench import spec as specs

# Busy machines are slow, not wrong; a failing draw is printed as a line that repeats it.
settings.register_profile("house", deadline=None, max_examples=60, print_blob=True, database=None)
settings.load_profile("house")

seeds = st.integers(-(2**40), 2**40)
words = st.from_regex(r"[a-z][a-z0-9_]{0,10}", fullmatch=True)
texts = st.text(max_size=20)
floats = st.floats(allow_nan=False, allow_infinity=False)
positive = st.floats(min_value=1e-12, max_value=1e12)
shares = st.floats(min_value=0, max_value=1, exclude_max=True)
counts = st.integers(1, 10**6)
naturals = st.integers(0, 10**9)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | floats | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
settings_of_members = st.dictionaries(words, json_values, max_size=4)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """None, or a draw."""
    return st.none() | strategy


train_specs = st.builds(
    specs.TrainSpec,
    num_train_epochs=positive,
    max_steps=maybe(counts),
    per_device_train_batch_size=counts,
    gradient_accumulation_steps=counts,
    learning_rate=maybe(positive),
    lr_scheduler_type=st.sampled_from(["cosine", "linear", "constant"]),
    warmup_ratio=shares,
    weight_decay=st.floats(0, 10),
    max_grad_norm=positive,
    precision=st.sampled_from(["fp32", "bf16"]),
    max_length=st.integers(16, 10**6),
    limit=maybe(counts),
    validation_share=shares,
    eval_steps=positive,
    checkpoint=st.sampled_from(["best", "last"]),
)
rows_specs = st.builds(specs.RowsSpec, limit=maybe(counts), validation_share=shares)
eval_specs = st.builds(
    specs.EvalSpec,
    split=st.sampled_from(["test", "validation"]),
    limit=maybe(counts),
    max_new_tokens=maybe(counts),
    max_length=st.integers(16, 10**6),
    merged=maybe(st.booleans()),
)
pscp_specs = st.builds(
    specs.PscpSpec,
    parameters=positive,
    forward_flops=positive,
    memory_bytes=positive,
    beta_parameters=st.floats(0, 10),
    beta_forward_flops=st.floats(0, 10),
    beta_memory=st.floats(0, 10),
)
entries = st.builds(
    specs.Entry,
    use=st.text(min_size=1, max_size=20),
    options=st.dictionaries(words | words.map("train.{}".format), json_values, max_size=3),
)
suites = st.builds(
    specs.Suite,
    name=words,
    description=texts,
    tasks=st.lists(entries, min_size=1, max_size=3).map(tuple),
    models=st.lists(entries, min_size=1, max_size=2).map(tuple),
    methods=st.lists(entries, min_size=1, max_size=3).map(tuple),
    seeds=st.lists(st.integers(), min_size=1, max_size=4, unique=True).map(tuple),
    train=train_specs,
    evaluate=eval_specs,
    pscp=pscp_specs,
)
task_refs = st.builds(specs.TaskRef, name=texts, version=naturals, data=texts, plugin=maybe(texts))
model_refs = st.builds(
    specs.ModelRef,
    name=texts,
    revision=texts,
    dtype=st.sampled_from(["float32", "bfloat16", "float16"]),
    chat=st.sampled_from(["template", "plain"]),
    trust_remote_code=st.booleans(),
)
method_refs = st.builds(
    specs.MethodRef,
    name=texts,
    version=naturals,
    settings=settings_of_members,
    plugin=maybe(texts),
    wraps=maybe(texts),
)
run_specs = st.builds(
    specs.RunSpec,
    task=task_refs,
    model=model_refs,
    method=method_refs,
    train=maybe(train_specs),
    evaluate=eval_specs,
    seed=maybe(st.integers()),
    drawn_from=maybe(rows_specs),
    trial=maybe(naturals),
    numerics=st.just(specs.NUMERICS),
)
resources = st.builds(
    specs.Resources,
    device=st.sampled_from(["auto", "cpu", "cuda", "mps"]),
    threads=maybe(counts),
    micro_batch=maybe(counts),
    eval_batch=counts,
    save_adapter=st.booleans(),
    data_root=maybe(texts),
    model_folder=maybe(texts),
    task_file=maybe(texts),
    method_file=maybe(texts),
)
split_results = st.builds(
    records.SplitResult,
    metrics=st.dictionaries(words, floats, max_size=2),
    examples=naturals,
    unreadable=naturals,
    cut=naturals,
    unfit=naturals,
)
site_updates = st.builds(
    records.SiteUpdates,
    site=texts,
    tokens=naturals,
    mean=floats,
    quantiles=st.dictionaries(words, floats, max_size=2),
    threshold=maybe(floats),
    density=maybe(floats),
)
merged_results = st.builds(
    records.Merged,
    metrics=st.dictionaries(words, floats, max_size=2),
    changed=naturals,
    predict_seconds=floats,
    predict_tokens_per_second=floats,
)
fit_results = st.builds(
    records.FitResult,
    steps=naturals,
    examples=naturals,
    tokens=naturals,
    cut=naturals,
    unfit=naturals,
    first_loss=floats,
    last_loss=floats,
    best_step=maybe(naturals),
    best_validation_loss=maybe(floats),
    batches=texts,
)
peaks = st.builds(
    records.Peak,
    phase=st.sampled_from(["fit", "predict"]),
    definition=st.sampled_from(["host_resident", "cuda_allocated", "cuda_reserved"]),
    bytes=naturals,
)
costs = st.builds(
    records.Cost,
    trainable_parameters=naturals,
    total_parameters=naturals,
    adapter_bytes=maybe(naturals),
    fit_seconds=maybe(floats),
    fit_tokens_per_second=maybe(floats),
    predict_seconds=floats,
    predict_tokens_per_second=floats,
    peaks=st.lists(peaks, max_size=3).map(tuple),
    forward_flops=maybe(naturals),
    base_forward_flops=maybe(naturals),
    forward_length=maybe(naturals),
)
environments = st.builds(
    records.Environment,
    peftbench=texts,
    python=texts,
    platform=texts,
    processor=texts,
    device=texts,
    threads=naturals,
    packages=st.dictionaries(words, texts, max_size=3),
)
failures = st.builds(
    records.Failure,
    phase=st.sampled_from(["data", "model", "attach", "fit", "predict", "judge", "save"]),
    kind=texts,
    message=texts,
    fix=texts,
)
full_records = st.builds(
    records.Record,
    run_id=texts,
    spec=run_specs,
    resources=resources,
    headline=texts,
    test=maybe(split_results),
    validation=maybe(split_results),
    merged=maybe(merged_results),
    fit=maybe(fit_results),
    cost=maybe(costs),
    system_message=maybe(texts),
    environment=environments,
    failure=maybe(failures),
    started=texts,
    finished=texts,
)
predictions = st.builds(
    records.Prediction,
    id=texts,
    group=texts,
    split=st.sampled_from(["test", "validation"]),
    target=texts,
    text=texts,
    answer=maybe(texts),
    statistics=st.dictionaries(words, st.lists(floats, max_size=3).map(tuple), max_size=2),
)
VALUES: dict[type[specs.Value], st.SearchStrategy[Any]] = {
    specs.RowsSpec: rows_specs,
    specs.TrainSpec: train_specs,
    specs.EvalSpec: eval_specs,
    specs.PscpSpec: pscp_specs,
    specs.Entry: entries,
    specs.Suite: suites,
    specs.TaskRef: task_refs,
    specs.ModelRef: model_refs,
    specs.MethodRef: method_refs,
    specs.RunSpec: run_specs,
    specs.Resources: resources,
    records.SplitResult: split_results,
    records.SiteUpdates: site_updates,
    records.Merged: merged_results,
    records.FitResult: fit_results,
    records.Peak: peaks,
    records.Cost: costs,
    records.Environment: environments,
    records.Failure: failures,
    records.Record: full_records,
    records.Prediction: predictions,
}


def plain(value: specs.Value) -> dict[str, Any]:
    """The value as a reader of its JSON sees it."""
    data: dict[str, Any] = json.loads(value.model_dump_json())
    return data
