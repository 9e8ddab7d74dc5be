// Package cloud is the connection to the hub: it takes records from the outbox
// and publishes them, and it carries the device twin and direct methods.
//
// A record is deleted from the outbox at the PUBACK of the very connection it
// was sent on, seen on the wire, and for no other reason: not when a library's
// token completes, not when the connection closes cleanly. What was in flight
// when a connection ended is sent again on the next one, in order. So every
// message arrives at least once; a hub that cares tells repetitions by the
// message's ID.
//
// A connection that fails is tried again for ever, with growing, jittered
// pauses. A message that makes the hub close the connection whenever it is sent
// is set aside, but only on evidence against that one message: see suspect.go.
//
// There is one file per dialect: azure.go speaks Azure IoT Hub's MQTT
// interface, mqtt.go speaks to any MQTT broker. The package does not know
// modules or routes; it sees the device through the interface [Device]. Start
// with [Connection].
package cloud
