// Package edge is the runtime that modules live in: it does, in one process,
// what Azure IoT Edge's Edge Hub and Edge Agent do for containers.
//
// A [Module] reads inputs, writes outputs, has desired and reported properties
// and answers direct methods; it sees nothing but its [Client]. The [Runtime]
// starts every module, restarts the one that fails or panics without touching
// the others, carries messages along the routes (language: package route), and
// holds the device's twin.
//
// # How a message travels
//
// A module calls [Client.Send]. The runtime looks up the routes that match and
// delivers the message to each endpoint in turn: to a module's input by calling
// its handler, to $upstream by putting it into the durable outbox. Send returns
// when all of them have taken it. There is no queue in between: a slow receiver
// holds its sender back, and what Send has accepted is on stable storage or
// handled. The whole way of a message is therefore one call chain, in
// [Runtime.send].
//
// The package is not for talking to the hub (package cloud), nor for keeping
// messages while it is away (package outbox). Start with [Runtime].
package edge
