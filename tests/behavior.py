"""What an answer does, looked at from further away than its check does: to tell whether a mutant differs.

One function per exercise: it takes the answer and returns everything worth comparing.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from base import tiny_teacher
from torch import Tensor, nn

from knowsam_lite.aggregation import HybridAggregation
from knowsam_lite.config import Config
from knowsam_lite.data import Record
from knowsam_lite.data.sampler import Batch, Stream
from knowsam_lite.errors import UserError
from knowsam_lite.methods import Method
from knowsam_lite.methods.with_sam import NoTeacher
from knowsam_lite.sam import Adapter
from knowsam_lite.sam.backbones import backbone_named
from knowsam_lite.sam.teacher import TeacherOutput
from knowsam_lite.students import StudentOutput, Students
from knowsam_lite.subnets import UNet, VNet, way_down, way_up

FIRST_SEED = 1000  # the hidden tests of the instructor's notebooks begin elsewhere


def random(*shape: int, seed: int, scale: float = 2.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(FIRST_SEED + seed))


def with_gradients(f: Callable[..., Any], *inputs: Tensor) -> Iterator[Tensor]:
    """The outputs, whether they carry a graph, and the gradient of each that does."""
    leaves = [t.clone().requires_grad_() for t in inputs]
    made = f(*leaves)
    for out in made if isinstance(made, tuple | list) else [made]:
        yield out.detach()
        yield torch.tensor(out.requires_grad)
        if out.requires_grad:
            weights = random(*out.shape, seed=7)
            found = torch.autograd.grad((out * weights).sum(), leaves, retain_graph=True, allow_unused=True)
            yield from (torch.zeros(()) if g is None else g for g in found)


def dice_per_class(f: Callable[[Tensor, Tensor], Tensor]) -> Iterator[Tensor]:
    for classes in (2, 3, 6):
        z, y = random(4, classes, 7, 5, seed=classes), random(4, classes, 7, 5, seed=classes + 20).argmax(1)
        z[0, 1:], z[1, -1], y[3] = -50.0, -50.0, 0
        y[0], y[1][y[1] == classes - 1] = 0, 0
        yield f(z, y).clone()


def choose_patients(f: Callable[[list[Record], int], list[str]]) -> Iterator[Tensor]:
    splits = ("train", "val", "train", "train", "test", "train")
    for order in range(4):
        turns = random(20, seed=order).argsort().tolist()
        records = [
            Record(f"i{i}", Path(f"{i}.png"), Path(f"{i}m.png"), f"g{i % 6}", splits[i % 6]) for i in turns
        ]
        for wanted in range(1, 15):
            chosen = f(records, wanted)
            yield torch.tensor([float(record.id in chosen) for record in records] + [float(len(chosen))])


def box_of(f: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
    for seed in range(6):
        yield f(random(11, 17, seed=seed) > 3.0 + seed / 3)
    yield f(torch.zeros(5, 8, dtype=torch.bool))
    yield f(torch.ones(5, 8, dtype=torch.bool))


def who_learns(f: Callable[[Tensor, dict[str, nn.Module]], set[str]]) -> Iterator[Tensor]:
    torch.manual_seed(3)
    names = ("a", "b", "frozen", "both", "unused")
    nets: dict[str, nn.Module] = {name: nn.Linear(4, 4) for name in names} | {"empty": nn.Identity()}
    nets["frozen"].requires_grad_(False)
    nets["both"].requires_grad_(False).bias.requires_grad_()
    x = random(3, 4, seed=1)
    losses = [
        nets["a"](x).square().mean(),
        nets["frozen"](nets["a"](x) + nets["b"](x).detach()).square().mean(),
        nets["both"](nets["b"](x)).mean() + 0 * nets["unused"](x).mean(),
        -nets["b"](x).exp().sum() + nets["unused"].weight[0, 0],
    ]
    for loss in (*losses, *losses):
        told = f(loss, nets)
        yield torch.tensor([float(name in told) for name in nets] + [float(len(told))])
    yield torch.tensor([float(p.grad is None) for net in nets.values() for p in net.parameters()])


def segment(f: Callable[..., Tensor]) -> Iterator[Tensor]:
    for classes in (2, 4):
        for height, width, size in ((20, 34, 16), (48, 30, 32), (64, 64, 64)):
            torch.manual_seed(classes)
            nets = [
                nn.Sequential(nn.Conv2d(3, classes, 3, padding=1), nn.BatchNorm2d(classes)) for _ in range(2)
            ]
            students = Students(classes, *nets).train()
            coarse = random(1, 3, 6, 5, seed=height).sigmoid()
            smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
            image = (255 * smooth[0].movedim(0, -1)).byte().numpy()
            graphs: list[float] = []
            students.ham.register_forward_hook(lambda *_, g=graphs: g.append(float(torch.is_grad_enabled())))
            yield f(students, image, size)
            yield torch.tensor([*graphs, float(students.training)])
            yield f(students, image)


def receptive_field(f: Callable[..., tuple[int, int]]) -> Iterator[Tensor]:
    torch.manual_seed(4)
    pooled = nn.Sequential(nn.Conv2d(3, 24, 5, padding=2), nn.MaxPool2d(2), nn.Conv2d(24, 24, (1, 3)))
    gaps = nn.Conv2d(3, 5, 3, padding=3, dilation=3)
    wide = nn.Conv2d(3, 2, (31, 15), padding="same")
    for net, size in ((pooled, 40), (gaps, 24), (wide, 24), (UNet(2, (2, 3, 4), (0, 0, 0)).eval(), 64)):
        yield torch.tensor([float(side) for side in f(net, size)])
        yield torch.tensor([p.grad is None for p in net.parameters()])
    yield torch.tensor([float(side) for side in f(gaps)])


def lively(net: nn.Module) -> nn.Module:
    """With statistics and weights away from their start."""
    torch.manual_seed(6)
    for name, tensor in net.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) + (0.5 if "var" in name else -0.3))
    return net


def conv_block(kind: Any) -> Iterator[Tensor]:
    for options in ((3, 4), (2, 6, 0.2), (5, 5, 0.7)):
        made = lively(kind(*options))
        yield torch.tensor([p.numel() for p in made.parameters()])
        for train in (False, True):
            torch.manual_seed(7)
            yield from with_gradients(made.train(train), random(2, options[0], 7, 10, seed=2))


def descend(f: Callable[..., list[Tensor]]) -> Iterator[Tensor]:
    for widths, channels in (((3, 5), 3), ((2, 4, 3, 6), 1)):
        encoder = lively(way_down(widths, [0.1] * len(widths))).eval()
        yield from with_gradients(lambda x, e=encoder: f(e, x), random(2, channels, 32, 16, seed=3))
    try:
        yield torch.tensor(float(len(f(encoder, random(1, 3, 24, 16, seed=1)))))
    except Exception as error:
        yield torch.tensor(float(len(str(error))))


def climb(f: Callable[..., list[Tensor]]) -> Iterator[Tensor]:
    for widths in ((3, 5), (2, 4, 3, 6)):
        up, decoder = (lively(part).eval() for part in way_up(widths))
        maps = [random(2, w, 16 >> i, 24 >> i, seed=i) for i, w in enumerate(widths)]
        yield from with_gradients(lambda *m, u=up, d=decoder: f(u, d, list(m)), *maps)
        f(up, decoder, maps)
        yield torch.tensor(float(len(maps)))


def dice_loss(f: Callable[..., Tensor]) -> Iterator[Tensor]:
    for classes in (2, 4):
        for known in (True, False):
            z, y = random(3, classes, 6, 7, seed=classes), random(3, classes, 6, 7, seed=30).argmax(dim=1)
            y[0, 0], y[1:] = (0, y[1:]) if known else (-1, y[1:].clamp(max=classes - 2))
            for smooth in ((), (1e-5,), (0.3,)):
                yield from with_gradients(lambda t, y=y, s=smooth: f(t, y, *s), z)
            yield f(z.bfloat16(), y)
    nothing = torch.tensor([0.0, -8.5]).view(1, 2, 1, 1).repeat(1, 1, 5, 5)
    yield f(nothing, torch.zeros(1, 5, 5, dtype=torch.int64))


def any_size(f: Callable[..., Tensor]) -> Iterator[Tensor]:
    for height, width in ((33, 20), (16, 31), (64, 48), (9, 58)):
        net = lively(UNet(3, (2, 3, 3, 4, 4))).train()
        graphs: list[float] = []
        net.register_forward_hook(lambda *_, g=graphs: g.append(float(torch.is_grad_enabled())))
        yield f(net, random(2, 3, height, width, seed=height))
        yield torch.tensor(graphs)
        yield from net.buffers()


def seeded(net: nn.Module) -> nn.Module:
    """With weights around 0 that keep a signal alive without normalization."""
    torch.manual_seed(6)
    for tensor in net.parameters():
        tensor.data = torch.randn_like(tensor) * (2 / tensor[0].numel()) ** 0.5
    return net


def stage(f: Callable[..., nn.Module]) -> Iterator[Tensor]:
    for options in ((5, 1), (3, 4), (4, 2, 6), (6, 1, 2)):
        made = seeded(f(*options))
        yield torch.tensor([float(p.numel()) for p in made.parameters()])
        yield from with_gradients(
            made, random(2, options[-1] if len(options) > 2 else options[0], 8, 5, seed=1)
        )


def signal(f: Callable[..., list[float]]) -> Iterator[Tensor]:
    for net in (VNet(2, (4, 3, 5), (2, 1, 1)), UNet(2, (3, 4, 2), (0, 0, 0))):
        graphs: list[float] = []
        net.register_forward_hook(lambda *_, g=graphs: g.append(float(torch.is_grad_enabled())))
        yield torch.tensor(f(seeded(net), random(4, 3, 16, 32, seed=2)))
        yield torch.tensor([float(len(m._forward_hooks)) for m in net.modules()])
        yield torch.tensor([*graphs, float(net.training)])


def start(f: Callable[[nn.Module], Any]) -> Iterator[Tensor]:
    deep = nn.Sequential(nn.Conv2d(20, 60, 3), nn.ConvTranspose2d(60, 90, 2), nn.Linear(60, 9))
    for net in (nn.Sequential(deep, nn.BatchNorm2d(5)), nn.Conv2d(60, 40, 3), nn.ConvTranspose2d(80, 50, 2)):
        torch.manual_seed(5)
        for parameter in net.parameters():
            nn.init.constant_(parameter, 2.0)
        f(net)
        for p in net.parameters():
            yield (
                (50 * p[0].numel() * p.var()).round() / 50 if p.ndim == 4 and (p != 2.0).any() else p.detach()
            )


def vnet(kind: Any) -> Iterator[Tensor]:
    torch.manual_seed(4)
    yield torch.tensor([float(p.numel()) for p in kind().parameters()])
    for options in ((2, (3, 4, 5, 5, 6), (1, 2, 1, 1, 2)), (4, (5, 3, 4), (2, 1, 3))):
        torch.manual_seed(4)
        made = kind(*options)
        yield from (p.detach().clone() for p in made.parameters())
        yield from with_gradients(seeded(made), random(2, 3, 48, 16, seed=5))
        yield made(random(1, 1, 32, 16, seed=6))
    try:
        yield made(random(1, 3, 24, 16, seed=1))
    except UserError as error:
        yield torch.tensor(float(len(str(error))))


def shared_errors(f: Callable[..., float]) -> Iterator[Tensor]:
    for classes in (2, 5):
        for seed in range(4):
            z_1, z_2 = (random(2, classes, 6, 9, seed=seed + s) for s in (0, 30))
            y = (z_1 + z_2 + random(2, classes, 6, 9, seed=seed + 60)).argmax(dim=1)
            y[0, : 1 + seed, 2:] = -1
            yield torch.tensor(f(z_1, z_2, y))
    yield torch.tensor(f(z_1, z_1, z_1.argmax(dim=1)))


def consistency(f: Callable[[Tensor, Tensor], Tensor]) -> Iterator[Tensor]:
    for classes in (2, 3, 6):
        z, z_other = random(2, classes, 5, 6, seed=classes), random(2, classes, 5, 6, seed=40, scale=4.0)
        yield from with_gradients(f, z, z_other)
        yield f(z.bfloat16(), z_other.bfloat16())


def mutual_terms(f: Callable[..., dict[str, Tensor]]) -> Iterator[Tensor]:
    for classes, w, v in ((2, 1.0, 1.0), (3, 0.1, 0.7), (5, 2.0, 0.0)):
        logits = [random(2, classes, 5, 6, seed=classes + s) for s in (0, 20)]
        for name in sorted(f(*logits, w, v)):
            yield from with_gradients(lambda *z, k=name, w=w, v=v: f(*z, w, v)[k], *logits)


def ramp(f: Callable[[float], float]) -> Iterator[Tensor]:
    yield torch.tensor([f(t / 40) for t in range(41)])


def batch_norm_net(seed: int, classes: int) -> nn.Module:
    net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, classes, 1))
    for i, p in enumerate(net.parameters()):
        p.data = random(*p.shape, seed=10 * seed + i, scale=0.5)
    return net


def follow(f: Callable[[nn.Module, nn.Module, int], None]) -> Iterator[Tensor]:
    teacher, student = (batch_norm_net(seed, 2) for seed in (1, 2))
    for step in (0, 1, 2, 30, 99, 100, 101, 2000):
        student(random(2, 3, 6, 6, seed=step))
        for i, p in enumerate(student.parameters()):
            p.data = random(*p.shape, seed=step + 50 * i)
        f(teacher, student, step)
        for net in (teacher, student):
            yield from (t.clone() for t in net.state_dict().values())
            yield torch.tensor([p.is_leaf and p.grad is None for p in net.parameters()])


def mean_teacher_terms(f: Callable[..., dict[str, Tensor]]) -> Iterator[Tensor]:
    for classes, n, w in ((2, 1, 1.0), (3, 3, 0.1)):
        x, y = random(5, 3, 8, 8, seed=n).sigmoid(), random(5, classes, 6, 6, seed=n).argmax(dim=1)
        y[n:] = -1
        net, teacher = (batch_norm_net(seed, classes) for seed in (3, 4))
        torch.manual_seed(n)
        terms = f(net, teacher, x, y, n, w)
        weights = [*net.parameters(), *teacher.parameters()]
        for name in sorted(terms):
            yield terms[name].detach().clone()
            yield torch.tensor(terms[name].requires_grad)
            if terms[name].requires_grad:
                found = torch.autograd.grad(terms[name], weights, retain_graph=True, allow_unused=True)
                yield from (torch.zeros(()) if g is None else g for g in found)
        yield from (t.clone() for part in (net, teacher) for t in part.buffers())
        yield torch.tensor([net.training, teacher.training])


def entropy(f: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
    for classes in (2, 3, 4, 7):
        for scale in (0.1, 3.0, 1000.0):
            yield from with_gradients(f, random(2, classes, 5, 6, seed=classes, scale=scale))
    yield f(random(1, 3, 4, 4, seed=0).bfloat16())


def disagreement(f: Callable[[Tensor, Tensor], Tensor]) -> Iterator[Tensor]:
    for classes in (2, 3, 5):
        p_a, p_b = (random(2, classes, 5, 6, seed=classes + s).softmax(dim=1) for s in (0, 20))
        yield from with_gradients(f, p_a, p_b)
        yield f(p_a.double(), p_b.double())
        yield f(torch.full_like(p_a, 0.5), p_b)


def ham_inputs(f: Callable[[Tensor, Tensor], Any]) -> Iterator[Tensor]:
    for classes in (2, 3, 5):
        yield from with_gradients(f, *(random(2, classes, 5, 6, seed=classes + s) for s in (0, 20)))


def ham(kind: Any) -> Iterator[Tensor]:
    yield torch.tensor([p.numel() for p in kind().parameters()])
    for classes in (2, 5):
        for train in (False, True):
            torch.manual_seed(3)
            reference = HybridAggregation(classes)
            made = kind(classes)
            made.load_state_dict(reference.state_dict())
            made.train(train)
            yield from with_gradients(made, *(random(2, classes, 8, 6, seed=classes + s) for s in (0, 20)))
            yield from (p.sum() for p in made.state_dict().values())


def ablate(f: Callable[[Any, str], Any]) -> Iterator[Tensor]:
    for name in ("agreement", "certainty", "logits"):
        torch.manual_seed(3)
        whole = HybridAggregation(3).eval()
        inputs = [random(2, 3, 8, 6, seed=s) for s in (0, 20)]
        quiet = f(whole, name)
        yield from with_gradients(quiet, *inputs)
        with torch.no_grad():  # as if it had learned: the branch stays silent, and the original as it was
            for p in quiet.parameters():
                p.add_(0.1)
            yield quiet(*inputs)
            yield whole(*inputs)


def encode_points(f: Callable[[Tensor, int, Tensor], Tensor]) -> Iterator[Tensor]:
    for size, d in ((64, 4), (96, 10), (1024, 16)):
        points, waves = random(6, 2, seed=size).sigmoid() * size, random(2, d, seed=d, scale=0.7)
        yield from with_gradients(lambda p, w, s=size: f(p, s, w), points, waves)


def freeze(f: Callable[[nn.Module], list[nn.Parameter]]) -> Iterator[Tensor]:
    for start in (True, False):
        inner = nn.Sequential(nn.Conv2d(2, 2, 1), nn.Sequential(Adapter(4, True), nn.LayerNorm(4)))
        named = nn.ModuleDict({"adapter": nn.Linear(2, 2), "x": Adapter(8, False)})
        for net in (inner, named, nn.Linear(1, 1)):
            net.requires_grad_(start).train()
            given = [id(p) for p in f(net)]
            yield torch.tensor([p.requires_grad for p in net.parameters()])
            yield torch.tensor([given.count(id(p)) for p in net.parameters()] + [len(given), net.training])


def adapter(kind: Any) -> Iterator[Tensor]:
    for dim in (4, 12):
        for skip in (True, False):
            torch.manual_seed(5)
            made, x = kind(dim, skip), random(2, 3, dim, seed=dim)
            yield from with_gradients(made, x)
            weights = [p for _, p in sorted(made.named_parameters())]  # which layer comes first is free
            yield torch.tensor([float(p.abs().sum() > 0) for p in weights])
            for i, p in enumerate(weights):
                p.data = random(*p.shape, seed=i, scale=0.5)
            yield from with_gradients(made, x)


def adapter_block(kind: Any) -> Iterator[Tensor]:
    for window, size in ((0, (4, 4)), (3, (5, 4))):
        made = kind(8, 2, window, (4, 4), True)
        yield torch.tensor([p.numel() for p in made.parameters()])
        for i, p in enumerate(made.parameters()):
            p.data = random(*p.shape, seed=i, scale=0.4)
        yield from with_gradients(made, random(2, *size, 8, seed=window))


def merged_attention(f: Callable[[Tensor, Tensor, Tensor, int], Tensor]) -> Iterator[Tensor]:
    for n in (1, 2, 9, 400):
        yield from with_gradients(lambda *t, n=n: f(*t, n), *(random(m, 5, seed=m) for m in (4, 6, 6)))
        yield f(random(3, 8, seed=1), random(2, 8, seed=2), random(2, 8, seed=3), n)


def prompt_decoder(kind: Any) -> Iterator[Tensor]:
    for n, k, g in ((2, 3, 4), (3, 1, 2), (1, 4, 3)):
        made = kind(16, 24, num_heads=2)
        yield torch.tensor([p.numel() for p in made.parameters()])
        for i, p in enumerate(made.parameters()):
            p.data = random(*p.shape, seed=i, scale=0.3)
        sizes = ((n, 16, g, g), (1, 16, g, g), (n, k, 2, 16), (n, k, 16, g, g))
        yield from with_gradients(made, *(random(*size, seed=i, scale=1.0) for i, size in enumerate(sizes)))


def mask_prompts(f: Callable[..., Tensor]) -> Iterator[Tensor]:
    for classes, size in ((2, (4, 4)), (3, (5, 9)), (6, (12, 7))):
        yield from with_gradients(lambda z, s=size: f(z, s), random(2, classes, 8, 10, seed=classes))
        yield f(random(2, classes, 8, 10, seed=classes, scale=90.0), size)
    yield f(random(1, 3, 6, 6, seed=1).bfloat16(), (3, 3))


def learnable_prompts(kind: Any) -> Iterator[Tensor]:
    for classes, dim, tokens in ((2, 8, 2), (4, 4, 3), (1, 8, 1)):
        torch.manual_seed(classes)
        made, embedding = kind(classes, dim, tokens), random(2, dim, 8, 8, seed=dim)
        yield torch.tensor([p.numel() for p in made.parameters()])
        yield torch.tensor([float(p.abs().sum() > 0) for p in made.parameters()])
        yield from with_gradients(made.eval(), embedding)
        for i, p in enumerate(made.parameters()):
            p.data = random(*p.shape, seed=i, scale=0.3)
        yield from with_gradients(made, embedding)


def sam_answer(f: Callable[..., Tensor]) -> Iterator[Tensor]:
    for classes, size, n in ((2, 32, 3), (4, 48, 1)):
        sam = tiny_teacher(classes).eval()
        for i, p in enumerate(sam.parameters()):
            p.data = random(*p.shape, seed=i, scale=0.25)
        passes: list[int] = []
        for module in (sam.image_encoder, sam.mask_decoder.transformer):
            module.register_forward_hook(lambda _, given, made, p=passes: p.append(len(given[0])))
        x, z_f = random(n, 3, size, size, seed=n).sigmoid(), random(n, classes, size, size, seed=size)
        yield from with_gradients(lambda x, z_f, sam=sam: f(sam, x, z_f), x, z_f)
        yield torch.tensor(passes)


def mended_and_broken(f: Callable[..., tuple[float, float]]) -> Iterator[Tensor]:
    for classes in (2, 3, 5):
        y = random(2, classes, 6, 7, seed=classes).argmax(dim=1)
        asked, answer = (
            torch.where(random(2, 6, 7, seed=s) > 1, (y + s) % classes, y) for s in (1, classes + 1)
        )
        for given in ((asked, answer, y), (y, asked, y), ((y + 1) % classes, answer, y), (asked, asked, y)):
            yield torch.tensor([float(value) for value in f(*given)])


def add_noise(f: Callable[..., Tensor]) -> Iterator[Tensor]:
    for n, classes, sizes in ((2, 2, (3,)), (3, 4, (9, 2, 5)), (1, 3, (6, 6))):
        z, strength = random(n, classes, 12, 10, seed=n), random(n, 1, 1, 1, seed=classes).abs()
        grids = [random(n, classes, k, k, seed=k) for k in sizes]
        yield from with_gradients(lambda z, g=grids, s=strength: f(z, g, s), z)
        yield z
        yield from grids


def soften(f: Callable[[Tensor, float], Tensor]) -> Iterator[Tensor]:
    for classes in (2, 3, 5):
        for temperature in (0.3, 1.0, 7.0):
            z = random(2, classes, 5, 6, seed=classes)
            yield from with_gradients(lambda x, t=temperature: f(x, t), z)
            yield f(z.bfloat16(), temperature)


def kl_divergence(f: Callable[[Tensor, Tensor], Tensor]) -> Iterator[Tensor]:
    for classes in (2, 3, 5):
        logs = [random(2, classes, 5, 6, seed=classes + s).log_softmax(dim=1) for s in (0, 20)]
        yield from with_gradients(f, *logs)


def distillation(f: Callable[..., Tensor]) -> Iterator[Tensor]:
    for classes in (2, 3, 5):
        z, z_s = random(2, classes, 5, 6, seed=classes), random(2, classes, 5, 6, seed=30, scale=5.0)
        yield f(z, z_s)
        yield f(z.bfloat16(), z_s.bfloat16())
        for temperature in (1.0, 3.0, 12.0):
            yield from with_gradients(lambda a, b, t=temperature: f(a, b, t), z, z_s)


def teacher_targets(f: Callable[..., Any]) -> Iterator[Tensor]:
    for n in (1, 3):
        graphs: list[Tensor] = []

        def teacher(x: Tensor, z_f: Tensor, weight: Tensor, graphs: list[Tensor] = graphs) -> Tensor:
            graphs.append(torch.tensor([len(x), torch.is_grad_enabled()]))
            return x.mean(dim=1, keepdim=True) * weight + z_f.square()

        def asked(x: Tensor, z_f: Tensor, weight: Tensor, n: int = n, teacher: Any = teacher) -> Any:
            return f(lambda x, z_f: teacher(x, z_f, weight), x, z_f, n)

        x, z_f, weight = random(4, 3, 5, 6, seed=1), random(4, 2, 5, 6, seed=2), random(1, 2, 1, 1, seed=3)
        yield from with_gradients(asked, x, z_f, weight)
        yield torch.stack(graphs)


def skd_terms(f: Callable[..., dict[str, Tensor]]) -> Iterator[Tensor]:
    logits = [random(2, 3, 5, 6, seed=seed) for seed in (1, 2, 3)]
    for weight, temperature in ((1.0, 10.0), (0.2, 3.0)):
        for name in ("a/distillation", "b/distillation"):
            yield from with_gradients(lambda *z, w=weight, t=temperature, k=name: f(*z, w, t)[k], *logits)


def uncertainty_board(f: Callable[..., Tensor]) -> Iterator[Tensor]:
    for classes, height, width, grid in ((2, 12, 8, 4), (3, 10, 20, 5), (5, 6, 6, 1)):
        yield from with_gradients(lambda z, g=grid: f(z, g), random(2, classes, height, width, seed=classes))
    yield f(random(3, 2, 8, 16, seed=4))
    yield f(random(3, 2, 8, 16, seed=5).bfloat16())
    for height, width in ((9, 12), (12, 9)):
        try:
            f(random(1, 2, height, width, seed=6), 4)
        except UserError:
            yield torch.tensor([height, width])


def choose_regions(f: Callable[..., Tensor]) -> Iterator[Tensor]:
    for seed, grid in enumerate((3, 4, 7)):
        u = random(4, grid, grid, seed=seed)
        for count in (1, 4, 9):
            for most in ("uncertain", "certain"):
                yield f(u, count, most)
        yield f(u)


def pseudo_labels(f: Callable[..., Tensor]) -> Iterator[Tensor]:
    for classes in (2, 3, 6):
        z = random(3, classes, 9, 7, seed=classes)
        yield f(z)
        for least in (0.3, 0.55, 0.8, 0.99):
            yield f(z, least)
            yield f(z.bfloat16(), least)


def mix(f: Callable[..., Any]) -> Iterator[Tensor]:
    for n_l, n_u, grid in ((2, 2, 4), (3, 7, 2), (5, 2, 8)):
        x_l, x_u = (random(n, 3, 16, 24, seed=n + s) for n, s in ((n_l, 0), (n_u, 30)))
        y_l, y_u = (random(n, 4, 16, 24, seed=n + s).argmax(dim=1) - 1 for n, s in ((n_l, 1), (n_u, 31)))
        regions_l, regions_u = (random(n, grid, grid, seed=n + s) > 0.5 for n, s in ((n_l, 2), (n_u, 32)))
        yield from (made.clone() for made in f(x_l, y_l, x_u, y_u, regions_l, regions_u))
        yield from (x_l, y_l, x_u, y_u)


def mixed_terms(f: Callable[..., dict[str, Tensor]]) -> Iterator[Tensor]:
    for classes, n, w in ((2, 1, 1.0), (3, 2, 0.2), (4, 3, 0.0)):
        y = random(4, classes + 1, 5, 6, seed=classes).argmax(dim=1) - 1
        logits = [random(4, classes, 5, 6, seed=seed) for seed in (1, 2, 3)]
        for name in sorted(f(StudentOutput(*logits), y, n, w)):
            yield from with_gradients(
                lambda *z, k=name, y=y, n=n, w=w: f(StudentOutput(*z), y, n, w)[k], *logits
            )


def joint_losses(f: Callable[..., dict[str, Tensor]]) -> Iterator[Tensor]:
    for classes, n, w in ((2, 1, 0.7), (4, 3, 0.2)):
        torch.manual_seed(classes)
        net_a, net_b, sam = (torch.nn.Conv2d(i, classes, 1) for i in (3, 3, 3 + classes))

        def students(x: Tensor, a: Any = net_a, b: Any = net_b) -> StudentOutput:
            return StudentOutput(a(x), b(x), a(x) - b(x))

        told: list[Tensor] = []

        def teacher(x: Tensor, z_f: Tensor, sam: Any = sam, told: list[Tensor] = told) -> Tensor:
            told += [z_f.detach().clone(), torch.tensor(torch.is_grad_enabled())]
            return sam(torch.cat([x, z_f.detach()], dim=1))

        y = random(n + 2, classes, 16, 16, seed=3).argmax(dim=1)
        y[n:] = -1
        terms = f(students, teacher, Batch(random(n + 2, 3, 16, 16, seed=4), y, n, []), w)
        yield from (terms[name].detach() for name in sorted(terms))
        torch.stack(list(terms.values())).sum().backward()
        yield from (p.grad for net in (net_a, net_b, sam) for p in net.parameters() if p.grad is not None)
        yield from told


def training_step(f: Callable[..., dict[str, Tensor]]) -> Iterator[Tensor]:
    start = [random(4, seed=seed) for seed in (1, 2, 3, 4)]
    weights = [torch.nn.Parameter(t.clone()) for t in start]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.SGD(weights[:2], 0.05, momentum=0.8, weight_decay=0.2),
        torch.optim.AdamW(weights[2:3], 0.1),
        torch.optim.SGD(weights[3:], 0.3),
    ]
    for step in range(5):
        goal = random(4, seed=50 + step)
        terms = {f"t{i}": (i + 1) * (w - goal).square().mean() for i, w in enumerate(weights)}
        if step % 2:
            del terms["t1"]
        told = f(terms, optimizers)
        yield from (w.detach().clone() for w in weights)
        yield torch.tensor([w.grad is None for w in weights])
        yield torch.tensor([len(told), *(t.requires_grad for t in told.values())])
        yield from (t.detach() for t in told.values())


def stream(kind: Any) -> Iterator[Tensor]:
    for count, seed, name in ((1, 0, 0), (3, 7, 1), (10, 2, 0), (10, 3, 1)):
        records = [Record(str(i), Path(str(i)), None, str(i), "train") for i in range(count)]
        made = kind(records, seed, name)
        yield torch.tensor([int(made[i].id) for i in (*range(5 * count), 1000, 0)])


def save(f: Callable[..., object]) -> Iterator[Tensor]:
    torch.manual_seed(2)
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 1))
    optimizer = torch.optim.AdamW(net.parameters(), 0.1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.pt"
        for step in range(3):
            net(random(5, 3, seed=step)).square().sum().backward()
            optimizer.step()
            f(path, net, optimizer, step)
            found = torch.load(path, weights_only=True)
            yield torch.tensor([len(list(Path(folder).iterdir())), len(found), found["step"]])
            yield found["random"]
            yield from found["net"].values()
            yield from (t for state in found["optimizer"]["state"].values() for t in state.values())


def choose(f: Callable[..., int]) -> Iterator[Tensor]:
    for seed in range(10):
        values = (random(9, 2, seed=seed).sigmoid() * 5).round() / 5  # coarse, so that there are equals
        rows = [
            {"kind": ("val", "test")[i % 3 == 2], "step": 10 * i + 10, "dice": {"a": float(a), "b": float(b)}}
            for i, (a, b) in enumerate(values)
        ]
        rows.insert(seed, {"kind": "train", "step": 5, "total": 1.0})
        yield torch.tensor([f(rows, "a"), f(rows, "b")])
    nothing = [{"kind": "val", "step": step, "dice": {"a": 0.0}} for step in (10, 20)]
    yield torch.tensor(f(nothing, "a"))


def paired_interval(f: Callable[..., Any]) -> Iterator[Tensor]:
    for images in (3, 17, 50):
        a, b = (random(images, seed=seed).sigmoid() for seed in (images, images + 1))
        draws = torch.randint(0, images, (99, images), generator=torch.Generator().manual_seed(images))
        yield from (torch.as_tensor(value) for value in f(a, b, draws))


def rungs(f: Callable[..., list[tuple]]) -> Iterator[Tensor]:
    for seeds, images, variants in ((2, 5, 3), (4, 9, 1), (6, 3, 4)):
        scores = {
            f"v{(3 * i) % 5}": random(seeds, images, seed=10 * seeds + i).sigmoid().numpy()
            for i in range(variants)
        }
        rows = f(scores)
        yield torch.tensor([list(scores).index(row[0]) for row in rows])
        yield torch.tensor([[float(number) for number in row[1:]] for row in rows])


def drawn_means(f: Callable[..., Any]) -> Iterator[Tensor]:
    for seeds, images in ((2, 7), (5, 5), (1, 4)):
        generator = torch.Generator().manual_seed(seeds)
        rows = torch.randint(0, seeds, (11, seeds), generator=generator).numpy()
        columns = torch.randint(0, images, (11, images), generator=generator).numpy()
        yield torch.as_tensor(f(random(seeds, images, seed=seeds).numpy(), rows, columns))


def failure_kind(f: Callable[..., str]) -> Iterator[Tensor]:
    names: list[str] = []
    y, x = torch.meshgrid(torch.arange(24), torch.arange(24), indexing="ij")
    truth = ((y - 12) ** 2 + (x - 12) ** 2 < 40).numpy()
    nothing = truth & ~truth
    for radius in (0, 2, 4, 5, 6, 7, 8, 10, 14):
        for away in (0, 2, 4, 6, 9, 14):
            pred = ((y - 12) ** 2 + (x - 12 + away) ** 2 < radius**2).numpy()
            names += [f(pred, truth), f(pred, nothing), f(truth, pred)]
    names.append(f(nothing, nothing))
    yield torch.tensor([float(sum(map(ord, name))) for name in names])


def reliability(f: Callable[..., Any]) -> Iterator[Tensor]:
    for bins in (1, 4, 16):
        confidence = random(3, 8, 9, seed=bins).sigmoid().numpy()
        confidence[0, 0, :5] = (0.0, 1.0, 0.25, 0.5, 0.75)
        right = (random(3, 8, 9, seed=bins + 1) > 0).numpy()
        yield from (torch.as_tensor(part) for part in f(confidence, right, bins))
    yield from (torch.as_tensor(part) for part in f(confidence, right))
    yield from (torch.as_tensor(part) for part in f(0.5 * confidence, right, 9))


def risk_coverage(f: Callable[..., Any]) -> Iterator[Tensor]:
    for n in (1, 6, 25):
        risk, doubt = random(n, seed=n).sigmoid().numpy(), random(n, seed=n + 1).round().numpy()
        yield from (torch.as_tensor(part) for part in f(risk, doubt))


def splits(f: Callable[..., dict[str, str]]) -> Iterator[Tensor]:
    names = [f"g{i}" for i in (4, 0, 7, 2, 2, 4, 11, 9, 5, 0, 1, 3, 3)]
    parts = ("train", "val", "test")
    for val in (-0.2, 0.0, 0.04, 0.3, 0.55, 1.0):
        for test in (-0.2, 0.0, 0.04, 0.3, 0.55, 1.0):
            for seed in (0, 3):
                try:
                    made = f(names, val, test, seed)
                    yield torch.tensor([float(parts.index(made[name])) for name in names] + [len(made)])
                except UserError:
                    yield torch.tensor(-1.0)


def warp(f: Callable[..., tuple[Tensor, Tensor]]) -> Iterator[Tensor]:
    for seed, (height, width) in enumerate(((9, 14), (16, 16))):
        coarse = random(3, 5, 4, 4, seed=seed)
        y = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear").argmax(dim=1) - 1
        theta = torch.eye(2, 3) + random(3, 2, 3, seed=seed, scale=0.25)
        yield from f(random(3, 3, height, width, seed=seed).sigmoid(), y, theta)


def step_records(f: Callable[..., list[Record]]) -> Iterator[Tensor]:
    walks = []
    for name, size in enumerate((4, 11)):
        records = [Record(str(i), Path(str(i)), None, str(i), "train") for i in range(size)]
        walks.append(Stream(records, 5, name))
    for step in (6, 0, 1, 250):
        for sizes in ((1, 1), (2, 5), (5, 2), (3, 0)):
            yield torch.tensor([int(record.id) for record in f(*walks, step, *sizes)])


def iou_two_ways(f: Callable[..., tuple[Tensor, Tensor]]) -> Iterator[Tensor]:
    for seed in range(4):
        pred, true = random(5, 6, 8, seed=seed) > 1, random(5, 6, 8, seed=seed + 9) > 2
        pred[0], true[0], pred[1] = False, False, False
        yield from (made.clone() for made in f(pred, true))
    nothing = torch.zeros(3, 4, 4, dtype=torch.bool)
    yield from (made.clone() for made in f(nothing, nothing))


def hd95(f: Callable[..., float]) -> Iterator[Tensor]:
    for seed in range(6):
        coarse = random(2, 1, 5, 4, seed=seed)
        smooth = torch.nn.functional.interpolate(coarse, (25, 17), mode="bilinear")[:, 0].numpy()
        yield torch.tensor(float(f(smooth[0] > 1, smooth[1] > 0.5)))
    some, nothing = smooth[0] > 0, smooth[0] > 99
    for pair in ((some, nothing), (nothing, some), (nothing, nothing), (some, some)):
        yield torch.tensor(float(f(*pair)))


class Averaged(Method):
    """A method to put SAM around: an average, two optimizers, and a memory of its steps."""

    name = "averaged"

    def __init__(self, config: Config, classes: int):
        super().__init__(config, classes)
        torch.manual_seed(classes)
        self.net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, classes, 1))
        self.seen: list[float] = []

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        return {"mine": (step + 2) * self.net(batch.x).abs().mean()}

    def predict(self, x: Tensor) -> Tensor:
        return self.net(x)

    def optimizers(self) -> list[torch.optim.Optimizer]:
        return [torch.optim.SGD(part.parameters(), 0.1) for part in (self.net[0], self.net[2])]

    def after_step(self, step: int) -> None:
        self.seen.append(float(step))


class EchoSam(NoTeacher):
    """Stands for SAM: a convolution of image and prompt."""

    def __init__(self, classes: int):
        super().__init__(backbone_named("sam_mini"))
        torch.manual_seed(classes + 1)
        self.parts = nn.ModuleList([nn.Conv2d(3 + classes, classes, 3, padding=1)])

    def learning_parts(self) -> dict[str, nn.ModuleList]:
        return {"adapters": self.parts}

    def forward(self, x: Tensor, z_f: Tensor) -> TeacherOutput:
        logits = 2 * self.parts[0](torch.cat([x, z_f.detach()], dim=1))
        return TeacherOutput(logits, logits, logits, logits)


def half_labeled(classes: int, labeled: int, unlabeled: int) -> Batch:
    n = labeled + unlabeled
    y = random(n, classes, 8, 12, seed=5).argmax(dim=1)
    y[labeled:] = -1
    return Batch(random(n, 3, 8, 12, seed=6).sigmoid(), y, labeled, [""] * n)


def term_by_term(terms: dict[str, Tensor], *modules: nn.Module) -> Iterator[Tensor]:
    """Each term, and its gradient at the parameters of the modules."""
    weights = [p for module in modules for p in module.parameters()]
    for name in sorted(terms):
        yield terms[name].detach()
        if terms[name].requires_grad:
            found = torch.autograd.grad(terms[name], weights, allow_unused=True, retain_graph=True)
            yield from (torch.zeros(()) if g is None else g for g in found)


def mirror(f: Callable[..., Method]) -> Iterator[Tensor]:
    for classes, labeled, unlabeled, step, steps in ((2, 1, 3, 0, 5), (3, 2, 1, 7, 9), (5, 2, 2, 20, 40)):
        torch.manual_seed(classes)
        net = nn.Sequential(nn.Conv2d(3, 5, (3, 5), padding=(1, 2)), nn.ELU(), nn.Conv2d(5, classes, 1))
        method, batch = (
            f(Config(image_size=16, steps=steps), classes, net),
            half_labeled(classes, labeled, unlabeled),
        )
        yield from term_by_term(method.losses(batch, step), net)
        yield method.predict(batch.x)


def sam_distillation(f: Callable[..., Method]) -> Iterator[Tensor]:
    for classes, labeled, unlabeled, step in ((2, 2, 1, 0), (4, 1, 3, 5)):
        config = Config(image_size=16, steps=9, temperature=float(classes), distillation_weight=0.2 * classes)
        inner, sam = Averaged(config, classes), EchoSam(classes)
        method = f(inner, sam)
        torch.manual_seed(step)
        yield from term_by_term(
            method.losses(half_labeled(classes, labeled, unlabeled), step), inner.net, sam
        )
        for optimizer in method.optimizers():
            held = {id(p) for group in optimizer.param_groups for p in group["params"]}
            yield torch.tensor([id(p) in held for p in (*inner.parameters(), *sam.parameters())])
        method.after_step(4)
        method.after_step(6)
        yield torch.tensor(inner.seen)


def paste(f: Callable[..., tuple[Tensor, ...]]) -> Iterator[Tensor]:
    for labeled, unlabeled in ((4, 3), (1, 2), (3, 7)):
        x_l, x_u = random(labeled, 3, 6, 4, seed=1), random(unlabeled, 3, 6, 4, seed=2)
        y_l, y_u = random(labeled, 4, 6, 4, seed=3).argmax(1), random(unlabeled, 4, 6, 4, seed=4).argmax(1)
        inside = random(6, 4, seed=labeled) > 0
        yield from (made.clone() for made in f(x_l, y_l, x_u, y_u, inside))
        yield x_l + x_u.sum()


def largest_components(f: Callable[[Tensor, int], Tensor]) -> Iterator[Tensor]:
    for classes in (2, 4):
        for seed in range(4):
            coarse = random(3, classes, 7, 8, seed=seed)
            smooth = torch.nn.functional.interpolate(coarse, (20, 15), mode="bilinear")
            yield f(smooth.argmax(dim=1), classes).clone()
    yield f(torch.zeros(2, 4, 4, dtype=torch.int64), 3).clone()


def score_volumes(f: Callable[..., dict[str, tuple[float, float]]]) -> Iterator[Tensor]:
    for seed, counts in enumerate(((3, 11), (13, 2, 5))):
        records, found, truth = [], [], []
        for k, count in enumerate(counts):
            coarse = random(2, 1, 2, 3, 3, seed=10 * seed + k)
            whole = torch.nn.functional.interpolate(coarse, (count, 8, 7), mode="trilinear")[:, 0].numpy()
            for i in range(count):
                of = {"index": i, "volume": f"v{k}", "spacing_mm": (5.0 + k, 1.0, 2.5)}
                records.append(Record(f"{k} {i}", Path("f"), None, f"p{k}", "val", **of))
                found.append(whole[0, i] > 0.3)
                truth.append(whole[1, i] > 0)
        turns = random(len(records), seed=seed).argsort().tolist()
        made = f(*([part[i] for i in turns] for part in (records, found, truth)))
        yield torch.tensor([list(map(float, made[name])) for name in sorted(made)])


BEHAVIOR: dict[str, Callable[[Any], Iterator[Tensor]]] = {
    "00.1": dice_per_class,
    "00.2": choose_patients,
    "00.3": box_of,
    "00.4": who_learns,
    "00.5": segment,
    "01.1": splits,
    "01.2": warp,
    "01.3": step_records,
    "01.4": iou_two_ways,
    "01.5": hd95,
    "02.1": receptive_field,
    "02.2": conv_block,
    "02.3": descend,
    "02.4": climb,
    "02.5": dice_loss,
    "02.6": any_size,
    "03.1": stage,
    "03.2": signal,
    "03.3": start,
    "03.4": vnet,
    "03.5": shared_errors,
    "04.1": consistency,
    "04.2": mutual_terms,
    "04.3": ramp,
    "04.4": follow,
    "04.5": mean_teacher_terms,
    "05.1": entropy,
    "05.2": disagreement,
    "05.3": ham_inputs,
    "05.4": ham,
    "05.5": ablate,
    "06.1": encode_points,
    "06.2": freeze,
    "06.3": adapter,
    "06.4": adapter_block,
    "06.5": merged_attention,
    "06.6": prompt_decoder,
    "07.1": mask_prompts,
    "07.2": learnable_prompts,
    "07.3": sam_answer,
    "07.4": mended_and_broken,
    "07.5": add_noise,
    "08.1": soften,
    "08.2": kl_divergence,
    "08.3": distillation,
    "08.4": teacher_targets,
    "08.5": skd_terms,
    "09.1": uncertainty_board,
    "09.2": choose_regions,
    "09.3": pseudo_labels,
    "09.4": mix,
    "09.5": mixed_terms,
    "10.1": joint_losses,
    "10.2": training_step,
    "10.3": stream,
    "10.4": save,
    "10.5": choose,
    "10.6": paired_interval,
    "12.1": mirror,
    "12.2": sam_distillation,
    "12.3": paste,
    "12.4": largest_components,
    "12.5": score_volumes,
    "11.1": rungs,
    "11.2": drawn_means,
    "11.3": failure_kind,
    "11.4": reliability,
    "11.5": risk_coverage,
}
