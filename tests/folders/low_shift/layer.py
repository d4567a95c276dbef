import torch
from config import LowShiftConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn


class LowShiftLayer(nn.Module, BaseTunerLayer):
    adapter_layer_names = ("low_shift_left", "low_shift_right")

    def __init__(self, base_layer, adapter_name, config: LowShiftConfig):
        super().__init__()
        self.base_layer = base_layer
        self.low_shift_left = nn.ParameterDict({adapter_name: torch.randn(base_layer.out_features, config.r)})
        self.low_shift_right = nn.ParameterDict({adapter_name: torch.zeros(config.r)})
        self._disable_adapters = False
        self.merged_adapters = []
        self._active_adapter = adapter_name
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter([adapter_name], inference_mode=config.inference_mode)

    def forward(self, x):
        out = self.base_layer(x)
        for name in self.active_adapters:
            out = out + (self.low_shift_left[name] @ self.low_shift_right[name]).to(out.dtype)
        return out
