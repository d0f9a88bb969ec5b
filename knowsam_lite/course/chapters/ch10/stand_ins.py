"""Small stand-in networks for the students and SAM."""

import torch
from torch import Tensor, nn

from knowsam_lite.students import StudentOutput


class ToyStudents(nn.Module):
    """Three small convolutions in place of F_a, F_b and HAM."""

    def __init__(self, classes: int):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, classes, 3, padding=1), nn.Conv2d(3, classes, 1)
        self.f = nn.Conv2d(2 * classes, classes, 1)

    def forward(self, x: Tensor) -> StudentOutput:
        z_a, z_b = 3 * self.a(x), 3 * self.b(x)
        return StudentOutput(z_a, z_b, self.f(torch.cat([z_a, z_b], dim=1)))


class ToyTeacher(nn.Module):
    """One convolution in place of SAM; it records what it is asked."""

    def __init__(self, classes: int):
        super().__init__()
        self.conv = nn.Conv2d(3 + classes, classes, 1)
        self.asked: list[Tensor] = []
        self.graphs: list[bool] = []

    def forward(self, x: Tensor, z_f: Tensor) -> Tensor:
        self.asked.append(z_f.detach().clone())
        self.graphs.append(torch.is_grad_enabled())
        return self.conv(torch.cat([x, z_f.detach()], dim=1))
