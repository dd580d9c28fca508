# SPDX-License-Identifier: Apache-2.0
"""The managed node `depth_sr`: lifecycle, subscriptions on demand, parameters, diagnostics."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import ParameterException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.timer import Timer

from depth_sr_ros.errors import ConfigError, DepthSRError
from depth_sr_ros.ros.diagnostics import Assessor, Ticker, diagnostic_array, log_line
from depth_sr_ros.ros.endpoints import Endpoints
from depth_sr_ros.ros.engine_loader import NO_ENGINE, Engine, engine_info, load_engine, new_warnings
from depth_sr_ros.ros.extrinsics import Registrar, make_extrinsics
from depth_sr_ros.ros.inputs import Inputs
from depth_sr_ros.ros.outputs import Outputs
from depth_sr_ros.ros.params import ParameterGate, check_qos_overrides
from depth_sr_ros.ros.pipeline import Pipeline
from depth_sr_ros.stats import Throttle

RCLError = rclpy_implementation.RCLError
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE

POLL_PERIOD_S = 0.05
DIAGNOSTICS_PERIOD_S = 1.0
MIN_LOG_PERIOD_S = 0.1
# Where publishers have no event for a subscriber that comes or goes (Humble).
DEMAND_PERIOD_S = 0.5
DEMAND_CHECK_S = 2.0


class DepthSRNode(LifecycleNode):
    """Pairs RGB and depth, super-resolves the newest pair, publishes the result.

    configure: outputs, network, warm-up. activate: inputs, as long as somebody listens. deactivate: no
    inputs, nothing waits. cleanup: no worker, no outputs. A transition that fails says why in the log and in
    /diagnostics, and leaves the state before it. `make_engine` gets the parameters and returns the engine; it
    runs on the worker's thread.

    Raises ConfigError on a parameter that is wrong from the start.
    """

    def __init__(
        self, make_engine: Callable[[dict[str, Any]], Engine] = load_engine, **node_options: Any
    ) -> None:
        try:
            super().__init__("depth_sr", automatically_declare_parameters_from_overrides=True, **node_options)
        except ValueError as error:  # an override whose type nobody can tell, such as an empty list
            raise ConfigError(f"a parameter cannot be used: {error}") from error
        self._make_engine = make_engine
        self._state = "unconfigured"
        self.failure = ""
        self.broken = ""
        """What the network failed of since the last configure, once the node has stopped listening."""
        self._last_error = self._breakdown = self._subscribe_failure = ""
        self._engine_info = NO_ENGINE
        self._throttle = Throttle()
        self._assess = Assessor()
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._pipeline: Pipeline | None = None
        self._outputs: Outputs | None = None
        self._registrar: Registrar | None = None
        self._own_timers: dict[str, Timer] = {}
        self._gate = ParameterGate(self, lambda: self._pipeline is not None, self._apply)
        self._endpoints = Endpoints(self, self._report, self._follow_demand)
        self._inputs = Inputs(self, self._endpoints, self._gate)
        self._broken = self.create_guard_condition(self._on_broken)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._ticker = Ticker(self._publish_diagnostics, DIAGNOSTICS_PERIOD_S, self._on_ticker_error)

    @property
    def parameters(self) -> dict[str, Any]:
        """The values of the table, as they are now."""
        return self._gate.values

    def close(self) -> None:
        """End all threads, whatever the state; safe to call again."""
        try:
            self._unsubscribe()
        finally:
            try:
                self._clean_up()
            finally:
                self._ticker.stop()

    def destroy_node(self) -> None:
        """Close, then destroy: no thread may publish on what is gone."""
        if hasattr(self, "_ticker"):  # rclpy's context also destroys a node whose constructor has raised
            self.close()
        super().destroy_node()

    # Lifecycle. rclpy hides an exception in a callback or dies of it, depending on its version.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Check the parameters, advertise the outputs, load and warm up the network; takes its time."""
        return self._transition("configuring", "inactive", self._configure, self._clean_up)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the inputs, where somebody listens to the outputs."""
        return self._transition("activating", "active", self._activate, self._unsubscribe)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe, drop what waits, end the frame under way."""
        return self._transition("deactivating", "inactive", self._unsubscribe)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End the worker, free the network's memory, withdraw the outputs."""
        return self._transition("cleaning up", "unconfigured", self._clean_up)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Do both of the above, from any state."""
        return self._transition("shutting down", "finalized", self._shut_down)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Go back to unconfigured, as rcl does after this."""
        return self._transition("recovering", "unconfigured", self._shut_down)

    def _transition(
        self, doing: str, after: str, step: Callable[[], None], undo: Callable[[], None] = lambda: None
    ) -> TransitionCallbackReturn:
        before, self._state = self._state, doing
        try:
            step()
        except Exception as error:  # the boundary to rclpy
            expected = isinstance(error, (DepthSRError, ParameterException))
            text = str(error) if expected else f"{type(error).__name__}: {error}"
            trace = "" if expected else "\n" + traceback.format_exc()
            self.get_logger().error(f"{doing} failed: {text}{trace}")
            undo()
            self._state, self.failure = before, text
            return FAILURE
        self._state = after
        if doing != "deactivating":  # what made it deactivate is still true
            self.failure = ""
        return SUCCESS

    def _configure(self) -> None:
        values = self._gate.values
        self._engine_info = NO_ENGINE
        # Those of the last try say nothing about this one.
        self.failure = self._breakdown = self.broken = ""
        if values["register"]:
            self._registrar = Registrar(make_extrinsics(self, values), self._report)
        self._outputs = Outputs(self._endpoints, self._report)
        self.get_logger().info(f"loading the network: variant {values['variant']}")
        self._pipeline = Pipeline(
            values,
            lambda: self._load(values),
            self._outputs,
            self._registrar,
            self._report,
            self._on_failure,
            self.get_clock(),
        )
        self._pipeline.start()
        self._set_log_timer(values["log.period"])

    def _activate(self) -> None:
        pipeline = self._pipeline
        assert pipeline is not None
        if self._breakdown:
            raise ConfigError(f"the network failed ({self._breakdown}): clean up and configure again")
        self._subscribe()
        names = ", ".join(self._inputs.topics)
        check_qos_overrides(self, self._endpoints.topics)
        self._own_timers["poll"] = self.create_timer(POLL_PERIOD_S, pipeline.poll, clock=self._steady)
        # With matched events a look now and then is enough: an event can come before the count that it is
        # about has changed, and then nothing would follow it.
        period = DEMAND_CHECK_S if Endpoints.has_matched_events else DEMAND_PERIOD_S
        self._own_timers["demand"] = self.create_timer(period, self._follow_demand, clock=self._steady)
        self.get_logger().info(f"ready: {self._engine_info['engine']}; listening to {names}")
        self._state = "active"
        self._follow_demand()

    def _unsubscribe(self) -> None:
        for name in ("poll", "demand"):
            self._cancel(name)
        self._drop_inputs()

    def _clean_up(self) -> None:
        self._cancel("log")
        if self._pipeline is not None:
            self._pipeline.stop()
        # The worker has ended: nobody publishes any more.
        if self._outputs is not None:
            self._outputs.destroy()
        if self._registrar is not None:
            self._registrar.close()
        self._pipeline = self._outputs = self._registrar = None
        self._engine_info = NO_ENGINE

    def _shut_down(self) -> None:
        self._unsubscribe()
        self._clean_up()

    # Inputs, as long as somebody listens.

    def _subscribe(self) -> None:
        assert self._pipeline is not None
        self._pipeline.open()
        self._inputs.open(self._pipeline)

    def _drop_inputs(self) -> None:
        self._inputs.close()
        if self._pipeline is not None:
            self._pipeline.clear()

    def _follow_demand(self) -> None:
        """Subscribe when a listener comes, unsubscribe when the last goes; with lazy false always listen."""
        if self._state != "active" or self._outputs is None:
            return
        wanted = not self._gate.values["lazy"] or self._outputs.subscribers() > 0
        if wanted and not self._inputs:
            try:
                self._subscribe()
            except ConfigError as error:  # this is called by events and timers, which nobody catches for
                self._drop_inputs()
                self.failure = self._subscribe_failure = str(error)
                self._report(self.failure)
            else:
                if self.failure == self._subscribe_failure:  # any other failure is still true
                    self.failure = ""
        elif not wanted and self._inputs:
            self._drop_inputs()

    # Parameters.

    def _apply(self, name: str, value: Any) -> None:
        if self._pipeline is None:
            return
        self._pipeline.apply(self._gate.values)
        if name == "log.period":
            self._set_log_timer(value)
        elif name == "lazy":
            self._follow_demand()

    def _set_log_timer(self, period: float) -> None:
        self._cancel("log")
        if period:
            # Not faster than anybody reads: a period of nanoseconds would keep the executor busy.
            period = max(period, MIN_LOG_PERIOD_S)
            self._own_timers["log"] = self.create_timer(period, self._log_counters, clock=self._steady)

    def _cancel(self, name: str) -> None:
        timer = self._own_timers.pop(name, None)
        if timer is not None:
            self.destroy_timer(timer)

    # Worker thread.

    def _load(self, values: dict[str, Any]) -> Engine:
        engine = self._make_engine(values)
        for warning in new_warnings(engine):
            self._report(warning)
        self._engine_info = engine_info(engine, values["variant"])
        return engine

    def _on_failure(self, error: Exception) -> None:
        self._last_error = self._breakdown = f"{type(error).__name__}: {error}"
        self.failure = f"the network failed: {self._breakdown}"
        self.get_logger().error("the network failed:\n" + "".join(traceback.format_exception(error)))
        self._broken.trigger()

    # Executor thread again.

    def _on_broken(self) -> None:
        """Stop listening: a broken device answers every further frame with the same error."""
        try:
            if self._state == "active":
                self.trigger_deactivate()
        finally:
            self.broken = self._breakdown
        self._publish_diagnostics()  # now: the process may end before the next second

    # Reports, from any thread.

    def _report(self, text: str) -> None:
        self._last_error = text
        times = self._throttle.admit(text)
        if times:
            self.get_logger().warning(text if times == 1 else f"{text} ({times} times)")

    def snapshot(self) -> dict[str, Any]:
        """State, counters, rates, times and the engine, flat; see Pipeline.snapshot."""
        # Taken once: the diagnostics' thread asks, and the executor's may clean up or unsubscribe meanwhile.
        pipeline, inputs = self._pipeline, self._inputs.snapshot()
        out = {"state": self._state, "failure": self.failure, "subscribed": inputs["subscribed"]}
        if pipeline is not None:
            out |= pipeline.snapshot()
        return out | inputs | self._engine_info | {"last_error": self._last_error}

    def _publish_diagnostics(self) -> None:
        try:
            snapshot = self.snapshot()
            level, message = self._assess(snapshot)
            name, stamp = f"{self.get_fully_qualified_name()}: pipeline", self.get_clock().now().to_msg()
            self._diagnostics.publish(diagnostic_array(name, level, message, snapshot, stamp))
        except RCLError as error:  # a flood
            self._report(f"diagnostics could not be published: {error}")

    def _on_ticker_error(self, error: Exception) -> None:
        self._report("diagnostics failed:\n" + "".join(traceback.format_exception(error)))

    def _log_counters(self) -> None:
        if self._pipeline is not None:
            self.get_logger().info(log_line(self._pipeline.snapshot()))
