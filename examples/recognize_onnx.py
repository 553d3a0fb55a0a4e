"""Recognize a video with a file of `tools/export.py --format onnx`, and with nothing of ours.

python recognize_onnx.py model.onnx video.mp4

Needs PyAV, OpenCV, NumPy and ONNX Runtime. Of the file's two protocols it takes `val`.
"""

import json
import sys

import av
import cv2
import numpy as np
import onnxruntime

model, video = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=onnxruntime.get_available_providers())
metadata = session.get_modelmeta().custom_metadata_map
steps = {step["type"]: step for step in json.loads(metadata["protocols"])["val"]}

with av.open(video) as container:
    frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
total = len(frames)

# Which frames: `num_clips` clips of `clip_len` frames, a row each.
if "SampleFrames" in steps:
    step = steps["SampleFrames"]
    clips, length, interval = step["num_clips"], step["clip_len"], step.get("frame_interval", 1)
    if length == 1:
        starts = np.arange(clips) * total / clips + total / clips / 2
    else:
        room = max(total - (length - 1) * interval - 1, 0)
        starts = np.round(np.linspace(0, room, clips)) if clips > 1 else np.array([room // 2])
    indices = ((starts[:, None] + np.arange(length) * interval) % total).astype(int)
elif "UniformSample" in steps:
    step = steps["UniformSample"]
    clips, length = step.get("num_clips", 1), step["clip_len"]
    part = (total - 1) / length
    starts = (part / (clips + 1) * np.arange(1, clips + 1)).astype(int)
    indices = starts[:, None] + np.round(part * np.arange(length)).astype(int)
else:
    sys.exit(f"{list(steps)[1]} is not in this example")

# Resized by the short side, and the centre cut out.
height, width = frames[0].shape[:2]
scale = max(steps["Resize"]["scale"]) / min(height, width)
size = int(width * scale + 0.5), int(height * scale + 0.5)
images = [cv2.resize(frames[i], size) for i in indices.ravel()]
crop = steps["CenterCrop"]["crop_size"]
left, top = (size[0] - crop) // 2, (size[1] - crop) // 2
views = np.stack([image[top : top + crop, left : left + crop] for image in images])
views = views.reshape(1, -1, session.get_inputs()[0].shape[2], crop, crop, 3)

(scores,) = session.run(["scores"], {"frames": views})
classes = json.loads(metadata["classes"])
for i in np.argsort(-scores[0])[:5]:
    print(f"{classes[i]}: {scores[0, i]:.6f}")
