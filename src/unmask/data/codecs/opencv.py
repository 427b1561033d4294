"""OpenCV, with one thread: whoever needs it imports it from here.

Work goes side by side in processes and in threads of our own already. And OpenCV's threads do not survive a fork: a
process that loads images would wait for ever for those of the process it was forked from.
"""

import cv2

__all__ = ["cv2"]
cv2.setNumThreads(1)
