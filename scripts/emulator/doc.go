// Package emulator runs the SD card image as a Raspberry Pi 3 in QEMU: the
// image's own bytes from U-Boot on, with an I2C controller and a TMP105
// thermometer on it, a camera that shows what the caller chooses, a USB network
// adapter, a serial console and ssh.
//
// Start with a [Card], the copy of the image that one device runs from, put
// settings on its FAT partition as a user does on another computer, and [Boot]
// it. The [Machine] that comes back is the device: set the temperature, take the
// sensor away, show a picture, cut the network or the power, run commands.
//
// It is not for trying programs without their image, and it cannot show what
// only hardware has:
//
//   - The Pi's boot firmware is not run. QEMU starts the image's U-Boot in its
//     place, with the device tree the firmware would have given it.
//   - QEMU's model of the SoC's watchdog resets the machine at the moment it is
//     started, so the system is told to leave it alone (systemd.watchdog_device,
//     among the boot script's variables). [Machine.StartWatchdog] puts the kernel's
//     software watchdog in its place: who feeds it, and that the system comes
//     back when nobody does, is tested; the SoC's timer is not.
//   - The USB network adapter is plugged in when Linux starts: QEMU's USB
//     controller tells of a device once, and U-Boot looks first.
//   - QEMU has no hot-plugging on I2C. [Machine.RemoveSensor] moves the
//     thermometer to another address of the bus, so the one the device asks at
//     gives no acknowledgement, as if nothing were there.
//   - A power cut ([Machine.PowerCut]) kills QEMU. What the system had written to
//     the card by then is on it, in order and to the 512-byte block where it
//     stopped; what it still held in memory is gone. Cards that lose or reorder
//     what they have acknowledged are not modelled.
package emulator
