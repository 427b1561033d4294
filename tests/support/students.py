"""Small networks of every kind that a student may be, and the source of one that a user brings."""

import torch
from torch import nn
from torch.nn.functional import max_pool2d, relu

NET = """
import torch
from torch import nn
__all__ = ["Small"]
class Small(nn.Module):
    def __init__(self, width=8, channels=3):
        super().__init__()
        def block(a, b):
            return nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1), nn.BatchNorm2d(b), nn.ReLU())
        self.stages = nn.ModuleList([block(channels, width), block(width, 2 * width), block(2 * width, 4 * width)])
    def forward(self, x):
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps[1:]
class Flat(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.LazyLinear(4))
    def forward(self, x):
        return self.layers(x)
def number():
    return 3
"""


class Functional(nn.Module):
    """Pools by functions, so that no module changes a stride; one activation serves all layers."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 6, 3), nn.Conv2d(6, 8, 3)
        self.act = nn.ReLU()

    def forward(self, x):
        x = max_pool2d(self.act(self.first(x)), 2)
        x = max_pool2d(self.act(self.second(x)), 2)
        return relu(self.third(x)).mean(dim=(2, 3))


class SharedPool(nn.Module):
    """One pooling makes all strides."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = (nn.Conv2d(a, b, 3, padding=1) for a, b in ((3, 4), (4, 6), (6, 8)))
        self.pool = nn.MaxPool2d(2)

    def forward(self, x):
        x = self.pool(self.first(x))
        x = self.pool(self.second(x))
        return self.third(self.pool(x)).mean(dim=(2, 3))


class ChannelsLast(nn.Module):
    """Maps b h w c, as in Swin."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(3, 12, 4, stride=4)
        self.norm, self.mix, self.merge = nn.LayerNorm(12), nn.Linear(12, 12), nn.Linear(48, 20)

    def forward(self, x):
        x = self.mix(self.norm(self.embed(x).permute(0, 2, 3, 1)))
        b, h, w, c = x.shape
        x = x.reshape(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5).flatten(3)
        return self.merge(x).mean(dim=(1, 2))


class Tokens(nn.Module):
    """A patch embedding, and layers that see no map."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 8, stride=8)
        self.layers = nn.Sequential(*(nn.Linear(8, 8) for _ in range(6)))

    def forward(self, x):
        return self.layers(self.embed(x).flatten(2).transpose(1, 2)).mean(dim=1)


class Auxiliary(nn.Module):
    """Gives more in training."""

    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(3, 8, 4, stride=4)

    def forward(self, x):
        x = self.body(x).mean(dim=(2, 3))
        return (x, x) if self.training else x


class Random(nn.Module):
    """Looks at values, so that it cannot run where there are none; keeps statistics."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.BatchNorm2d(8), nn.Dropout(0.5))

    def forward(self, x):
        x = self.body(x)
        return x * (2.0 if float(x.sum()) > 0 else 1.0)


def images(count=2, side=32, channels=3, seed=0, coarse=4):
    """Raw pixels: patterns of so many patches along a side."""
    patterns = torch.rand(count, channels, coarse, coarse, generator=torch.Generator().manual_seed(seed))
    return (255 * nn.functional.interpolate(patterns, size=(side, side), mode="bilinear").clamp(0, 1)).byte()
