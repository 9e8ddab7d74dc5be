// Package v4l2 captures pictures from USB cameras (UVC) and from other devices
// that Linux offers as single-planar video capture devices with streaming I/O.
//
// It takes a picture when asked, at any pace: [Dev.Frame] returns the next
// picture the camera takes, never an old one out of the driver's queue. It does
// not control exposure or focus, and it is not for the camera modules on the
// Raspberry Pi's ribbon connector: those give raw sensor data that libcamera has
// to develop.
//
// The requests are those of the Linux Media Infrastructure userspace API, part
// "Video for Linux API"; section names in comments refer to it.
//
// # Why not a library
//
// Two Go libraries were considered. github.com/blackjack/webcam v0.6.1 does not
// show a buffer's error flag, reports the size that was asked for instead of the
// one the driver chose, does not repeat interrupted requests, and unmaps
// buffers that the driver still fills. github.com/vladimirvivien/go4vl v0.5.0
// copies every frame of the camera whether it is wanted or not, reports damaged
// frames and dropped ones through one channel that holds a single error, waits
// for ever on a camera that has stalled, and folds the kernel's error numbers
// into a few classes, so that an unplugged camera cannot be told from a wrong
// format. Neither can be tested without a device. The part of the interface that
// is needed is eleven requests, in package uapi.
//
// Start with [New].
package v4l2
