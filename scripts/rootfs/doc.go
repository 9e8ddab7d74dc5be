// Package rootfs tests the folder rootfs/: what the card image lays over Debian,
// and of which the Debian package takes a part. That systemd takes the units
// without a word, that each is locked up, that what has to be kept is kept, and
// that what the device's programs expect of one another is what the files say.
//
// It has no code of its own. How all of it behaves on a device is for package
// emulator, which boots the image.
package rootfs
