// Package hub is a cloud hub that fits in one process: Azure IoT Hub's device
// interface over MQTT 3.1.1, with its state in one SQLite file. It serves for
// trying tuxwatch out, for tests, and as the hub of a single site.
//
// A device that talks to Azure IoT Hub talks to it unchanged: the user name,
// SAS tokens, topics, device twins, direct methods and cloud-to-device messages
// follow "Communicate with IoT Hub using the MQTT protocol" (api-version
// 2021-04-12). What a device sent is on stable storage before its PUBACK goes
// out, so an acknowledged event survives a crash or a power cut.
//
// It is not a general MQTT broker: devices do not see each other's messages, and
// only the hub's own topics exist. It is not made for many sites or many
// thousands of devices either.
//
// Start with [New], which opens the state and listens, and [Hub.Serve]. [State]
// is the part of it that works on the files alone, without a running hub, and
// [Client] reaches a hub that runs in another process. The program around this
// package is tuxhub.
package hub
