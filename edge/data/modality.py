"""What a case's name says: its modality, in any of the public spellings, and its data set."""

import re

SPELLINGS = {  # modality -> words that name it, anywhere in a case's name
    "CT": "ct cta cbct", "MR": "mr mri mra mrt fmri", "PET": "pet", "X-Ray": "xray cxr",
    "US": "us usg ultrasound ultrasonography sonography", "Mammography": "mammography mammogram mammo", "OCT": "oct",
    "Endoscopy": "endoscopy endoscope endoscopic", "Fundus": "fundus",
    "Dermoscopy": "dermoscopy dermoscope dermoscopic dermatoscopy",
    "Microscopy": "microscopy microscope microscopic",
}  # fmt: skip
WORDS = {word: modality for modality, words in SPELLINGS.items() for word in words.split()}
CHALLENGE_WORDS = {**WORDS, "ultra": "US", "mamm": "Mammography"}  # right after 2DBox_ or 3DBox_
UNKNOWN = "Unknown"


def modality_of(name: str) -> str:
    """One of MODALITIES for a case's name in any of the public spellings, or UNKNOWN.

    In the challenge's own names, `2DBox_<modality>_...`, that word decides. Elsewhere whole words do, a word being
    letters in a row (`CT01` is CT; `ctrl01`, `October`, `MRN00123` name nothing), unless they name several modalities.
    """
    plain = re.sub(r"(?<![^\W\d_])x[-_ ]?ray", "xray", name.lower())
    own = re.match(r"[23]dbox_([^\W\d_]+)", plain)
    if own and own[1] in CHALLENGE_WORDS:
        return CHALLENGE_WORDS[own[1]]
    named = {WORDS[word] for word in re.findall(r"[^\W\d_]+", plain) if word in WORDS}
    return named.pop() if len(named) == 1 else UNKNOWN


def dataset_in_name(name: str) -> str:
    """The data set in a case's name, its third word: `2DBox_CT_LungCT_310` is of LungCT; the modality where none is."""
    words = name.split("_")
    return words[2] if len(words) > 3 else modality_of(name)
