# SPDX-License-Identifier: Apache-2.0
"""What the node publishes: depth and its CameraInfo; colour picture, cloud and timing on demand."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.publisher import Publisher
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField

from depth_sr_ros.answer import Answer, Wanted
from depth_sr_ros.camera import PinholeCamera, has_distortion, resized_camera_info
from depth_sr_ros.errors import ConfigError, FrameError
from depth_sr_ros.image_codec import encode_depth, row_bytes
from depth_sr_ros.point_cloud import IS_BIGENDIAN, POINT_FIELDS, POINT_STEP, PointCloudBuilder
from depth_sr_ros.ros.endpoints import Endpoints
from depth_sr_ros.ros.messages import image_message

RCLError = rclpy_implementation.RCLError


@dataclass(frozen=True)
class Result:
    """One answered frame.

    `rgb`: the picture it belongs to, `answer`: what Outputs.wanted asked for, `info`: RGB's or None,
    `encoding`: of the depth image.
    """

    header: Any
    rgb: npt.NDArray[np.uint8]
    channel_order: str
    answer: Answer
    info: CameraInfo | None
    encoding: str


class Outputs:
    """The publishers of a configured node; what is named `publish_` runs on the worker's thread.

    Args:
        report: told in one sentence of what could not be published.

    Raises ConfigError on an impossible QoS override.
    """

    def __init__(self, endpoints: Endpoints, report: Callable[[str], None]) -> None:
        self._endpoints = endpoints
        self._report = report
        self._all: list[Publisher] = []
        try:
            self._image = self._advertise(Image, "~/depth/image")
            self._info = self._advertise(CameraInfo, "~/depth/camera_info")
            self._color = self._advertise(Image, "~/depth/color")
            self._confidence = self._advertise(Image, "~/confidence")
            self._points = self._advertise(PointCloud2, "~/points")
            self._timing = self._advertise(DiagnosticArray, "~/timing")
        except ConfigError:  # an impossible QoS override: no half of the outputs stays advertised
            self.destroy()
            raise
        self._message = Image(is_bigendian=sys.byteorder == "big")
        self._confidence_message = Image(is_bigendian=sys.byteorder == "big", encoding="32FC1")
        self._cloud = PointCloudBuilder()
        fields = [PointField(name=n, offset=o, datatype=t, count=c) for n, o, t, c in POINT_FIELDS]
        self._cloud_message = PointCloud2(fields=fields, point_step=POINT_STEP, is_bigendian=IS_BIGENDIAN)

    def subscribers(self) -> int:
        """How many subscriptions there are to all outputs together."""
        return sum(publisher.get_subscription_count() for publisher in self._all)

    def wanted(self, encoding: str, color_range: tuple[float, float] | None) -> Wanted:
        """What an answer must have now: the depth of that encoding, and what somebody listens to."""
        millimetres = encoding == "16UC1"
        return Wanted(
            metres=not millimetres or bool(self._points.get_subscription_count()),
            millimetres=millimetres,
            confidence=bool(self._confidence.get_subscription_count()),
            picture=bool(self._color.get_subscription_count()),
            color_range=color_range,
        )

    def destroy(self) -> None:
        """Withdraw all outputs."""
        self._endpoints.destroy(self._all)

    def encode_depth(self, result: Result) -> Image:
        """The depth image of a result; the next one takes its memory."""
        depth = result.answer.depth_for(result.encoding)
        _fill(self._message, depth, result.encoding, result.header)
        return self._message

    def publish_depth(self, image: Image, result: Result) -> bool:
        """Publish `encode_depth`'s image and its CameraInfo; False where the middleware refused the image."""
        if not self._try(self._image, image):
            return False
        if result.info is not None:
            size = (image.width, image.height)
            info = resized_camera_info(result.info, result.rgb.shape[1::-1], size)
            info.header = result.header
            self._try(self._info, info)
        return True

    def publish_views(self, result: Result) -> None:
        """Publish confidence, the colour picture and the cloud, where the answer has what they need."""
        answer = result.answer
        if answer.wanted.confidence:
            _fill(self._confidence_message, answer.confidence, "32FC1", result.header)
            self._try(self._confidence, self._confidence_message)
        if answer.wanted.picture:
            self._try(self._color, image_message(answer.picture, "rgb8", result.header))
        # Who came after the frame was begun waits for the next one where this has no metres.
        if answer.wanted.metres and self._points.get_subscription_count():
            self._publish_points(result)

    def publish_timing(self, header: Any, spans_ms: Mapping[str, float]) -> None:
        """Publish the milliseconds of each stage of one frame, where somebody listens."""
        if self._timing.get_subscription_count():
            values = [KeyValue(key=f"{name}_ms", value=f"{span:.3f}") for name, span in spans_ms.items()]
            status = DiagnosticStatus(level=DiagnosticStatus.OK, name="timing", values=values)
            self._try(self._timing, DiagnosticArray(header=header, status=[status]))

    def _advertise(self, kind: type, topic: str) -> Publisher:
        publisher = self._endpoints.publisher(kind, topic)
        self._all.append(publisher)
        return publisher

    def _publish_points(self, result: Result) -> None:
        if result.info is None:
            self._report("~/points is asked for, but no message has come on rgb/camera_info; remap it")
            return
        if has_distortion(result.info):
            self._report(
                "~/points is asked for, but the RGB camera's distortion is not zero: unless the images are "
                "rectified already, the points are off towards the corners"
            )
        metres = result.answer.metres
        height, width = metres.shape
        try:
            camera = PinholeCamera.from_camera_info(result.info, result.rgb.shape[1::-1]).resized(
                width, height
            )
            data = self._cloud(metres, camera, result.rgb, result.channel_order)
        except FrameError as error:
            self._report(f"~/points cannot be made: {error}")
            return
        out = self._cloud_message
        out.header = result.header
        out.height, out.width, out.row_step = height, width, width * POINT_STEP
        out.data = data
        self._try(self._points, out)

    def _try(self, publisher: Publisher, message: Any) -> bool:
        try:
            publisher.publish(message)
        except RCLError as error:  # under a flood the middleware refuses a message now and then
            self._report(f"publishing on {publisher.topic_name} failed: {error}")
            return False
        return True


def _fill(message: Image, values: npt.NDArray[Any], encoding: str, header: Any) -> None:
    """Make `message` an image of what `image_codec.encode_depth` takes."""
    height, width = values.shape
    # The message's own array is filled anew. Assigning one copies it where rclpy checks no fields.
    data = encode_depth(values, encoding, message.data)
    if data is not message.data:
        message.data = data
    message.header = header
    message.height, message.width = height, width
    message.encoding, message.step = encoding, row_bytes(encoding, width)
