"""`python -m train.ablation_cli`: whether balancing, LoRA and argmax help, on our data; see `train.ablation`."""

import argparse
import sys
from pathlib import Path

from edge.errors import SamedgeError
from edge.model_folder import DEFAULT_MODEL
from edge.report import print_rows
from train import ablation
from train.ablation import PARTS, Settings, run_ablation, table


def main() -> None:
    """Run the parts and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m train.ablation_cli",
        description=ablation.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="over the recipe's, in every training")
    parser.add_argument("--data", type=Path, required=True, help="folders train/ and val/ of labelled cases")
    parser.add_argument("--out", type=Path, required=True, help="made if missing")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="all if not given")
    parser.add_argument("--unseen", default=Settings.unseen, help="data set that the base does not see (%(default)s)")
    parser.add_argument("--base", type=Path, help="where part sampling starts; the base of part lora if not given")
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL, help="of part merge; the one that ships")
    for name, help in (
        ("ellipse_steps", "of the base's decoder, first"),
        ("base_steps", "of the base"),
        ("lora_steps", "of part lora"),
        ("sampling_steps", "of each training of part sampling"),
        ("cases", "to validate part sampling on"),
    ):
        default = getattr(Settings, name)
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default, help=f"{help} ({default})")
    parser.add_argument("--devices", type=int, default=1, help="processes per training (%(default)s)")
    given = vars(parser.parse_args())
    parts, given["overrides"] = given.pop("parts"), tuple(given["overrides"])
    try:
        rows = run_ablation(Settings(**given), parts, lambda line: print(line, file=sys.stderr, flush=True))
    except SamedgeError as error:
        sys.exit(f"error: {error}")
    print_rows(table(rows))


if __name__ == "__main__":
    main()
