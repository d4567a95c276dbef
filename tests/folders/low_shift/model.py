"""Low shift: a trained vector of low rank is added to what a layer puts out."""

from config import LowShiftConfig
from layer import LowShiftLayer
from peft.tuners.tuners_utils import BaseTuner


class LowShiftModel(BaseTuner):
    prefix = "low_shift_"
    tuner_layer_cls = LowShiftLayer

    @staticmethod
    def _prepare_adapter_config(peft_config, model_config):
        assert isinstance(peft_config, LowShiftConfig)
        if peft_config.target_modules is None:
            if model_config["model_type"] != "llama":
                raise ValueError("Please specify `target_modules` in `peft_config`")
            peft_config.target_modules = {"down_proj"}
        return peft_config

    def _create_and_replace(self, peft_config, adapter_name, target, target_name, parent, current_key):
        self._replace_module(parent, target_name, LowShiftLayer(target, adapter_name, peft_config), target)

    def set_adapter(self, adapter_name):
        # As it was called before peft 0.18.
        super().set_adapter(adapter_name)
