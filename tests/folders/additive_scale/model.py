"""Additive scale: a trained share of what a layer puts out is added to it."""

from __future__ import annotations

import torch
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import nn

from .config import AdditiveScaleConfig


class AdditiveScaleLayer(nn.Module, BaseTunerLayer):
    adapter_layer_names = ("additive_scale_share",)

    def __init__(self, base_layer: nn.Module, adapter_name: str, config: AdditiveScaleConfig) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.strength = config.strength
        self.additive_scale_share = nn.ParameterDict({})
        self._disable_adapters = False
        self.merged_adapters = []
        self._active_adapter = adapter_name
        size = base_layer.out_features // config.groups
        start = torch.zeros(size) if config.start == "zero" else 0.01 * torch.randn(size)
        self.additive_scale_share[adapter_name] = nn.Parameter(start)
        self.groups = config.groups
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter([adapter_name], inference_mode=config.inference_mode)

    def forward(self, x):
        out = self.base_layer(x)
        for name in self.active_adapters:
            share = self.additive_scale_share[name].repeat(self.groups)
            out = out * (1 + self.strength * share.to(out.dtype))
        return out


class AdditiveScaleModel(BaseTuner):
    prefix: str = "additive_scale_"
    tuner_layer_cls = AdditiveScaleLayer
    target_module_mapping = {"llama": ["q_proj", "v_proj"]}

    def _create_and_replace(self, peft_config, adapter_name, target, target_name, parent, current_key):
        self._replace_module(parent, target_name, AdditiveScaleLayer(target, adapter_name, peft_config), target)
