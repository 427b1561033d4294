"""OpenCV with one thread: to be imported from here only.

Our own processes and threads already work in parallel. And OpenCV's threads do not survive a fork: a loader process
would wait forever for those of its parent.
"""

import cv2

__all__ = ["cv2"]
cv2.setNumThreads(1)
