from dataclasses import dataclass
from typing import Optional, Union

from peft import PeftConfig
from peft.utils import PeftType


@dataclass
class LowShiftConfig(PeftConfig):
    r: int = 4
    target_modules: Optional[Union[list[str], str]] = None

    def __post_init__(self):
        super().__post_init__()
        self.peft_type = PeftType.LOW_SHIFT
