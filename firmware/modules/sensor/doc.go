// Package sensor is the module kind "sensor", by default the module tempSensor:
// it measures a machine's temperature, and the air around it, and sends a
// message.Climate on its output temperatureOutput every SendInterval seconds.
//
// Values come from chips on I²C or from a simulator that behaves like IoT
// Edge's simulated temperature sensor. A chip that is absent, does not answer
// or hangs the bus makes the module unhealthy, is tried again with growing
// pauses, and is used again when it is back; messages stop meanwhile, because a
// value that was not measured is never sent. If it is the chip for the air that
// fails, messages go on without it.
//
// It does not judge the values: that is for module kind filter and for routes.
//
// Start with Kind, then sensor.Run. The way of a value: instrument.read (a chip
// and its troubles), sensor.measure (the message's body), sensor.send.
package sensor
