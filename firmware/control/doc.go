// Package control is how the operator's command asks the running daemon: HTTP
// with JSON over a Unix socket. The daemon serves ([Serve]) what it implements
// ([Daemon]); the command asks through a [Client].
//
// The socket is for people and programs on the device itself: whoever may open
// the file may ask, and nothing can be changed through it. It is not the hub's
// connection (package cloud) nor the device's web page.
//
//	GET /v1/status   Status
//	GET /v1/config   Configuration
//	GET /v1/frame    Frame: a camera's newest picture (?camera=MODULE&after=TIME)
package control
