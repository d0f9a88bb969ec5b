"""The SAM-family backbones by name: their sizes and where their weights come from."""

from dataclasses import dataclass

from knowsam_lite.errors import UserError


@dataclass(frozen=True)
class Backbone:
    """The sizes of one SAM. Defaults are those that the published ViT-B, L and H share."""

    embed_dim: int  # channels of the image encoder
    depth: int  # its transformer blocks
    num_heads: int
    global_blocks: tuple[int, ...]  # blocks that attend over the whole image; the others within windows
    window_size: int = 14  # tokens a side
    patch_size: int = 16  # pixels a side of one token
    prompt_dim: int = 256  # channels of the embedding, the prompts and the decoder
    mlp_dim: int = 2048  # hidden channels of the decoder's MLPs
    pixel_mean: tuple[float, float, float] = (123.675, 116.28, 103.53)  # of 0..255
    pixel_std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    pretrained_size: int = 1024  # pixels a side of the images it was pretrained on
    packaged: str | None = None  # weights file inside the package; None: the user brings a checkpoint
    url: str | None = None  # where the checkpoint is published
    sha256: str | None = None


_META = "https://dl.fbaipublicfiles.com/segment_anything/"

BACKBONES: dict[str, Backbone] = {
    "sam_mini": Backbone(
        embed_dim=128,
        depth=6,
        num_heads=4,
        global_blocks=tuple(range(6)),
        window_size=0,
        patch_size=8,
        prompt_dim=128,
        mlp_dim=512,
        pretrained_size=128,
        packaged="sam_mini.safetensors",
    ),
    "sam_vit_b": Backbone(
        embed_dim=768,
        depth=12,
        num_heads=12,
        global_blocks=(2, 5, 8, 11),
        url=_META + "sam_vit_b_01ec64.pth",
        sha256="ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
    ),
    "sam_vit_l": Backbone(
        embed_dim=1024,
        depth=24,
        num_heads=16,
        global_blocks=(5, 11, 17, 23),
        url=_META + "sam_vit_l_0b3195.pth",
        sha256="3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
    ),
    "sam_vit_h": Backbone(
        embed_dim=1280,
        depth=32,
        num_heads=16,
        global_blocks=(7, 15, 23, 31),
        url=_META + "sam_vit_h_4b8939.pth",
        sha256="a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
    ),
}


def backbone_named(name: str) -> Backbone:
    """The backbone of that name. Raises UserError if there is none."""
    if name not in BACKBONES:
        raise UserError(f"found teacher {name!r}, expected one of {', '.join(BACKBONES)}")
    return BACKBONES[name]
