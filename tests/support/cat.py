"""One real photograph, at any size."""

import torch
from skimage import data
from torchvision.transforms.v2 import functional as F

CAT = torch.from_numpy(data.chelsea()[:, 75:375]).permute(2, 0, 1)  # c h w; a real photograph


def cat(height, width, channels=3):
    image = F.resize(CAT, [height, width], antialias=True)
    return image if channels == 3 else F.rgb_to_grayscale(image)
