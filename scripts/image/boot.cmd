# U-Boot chooses the slot, and starts Linux from it. Compiled to boot.scr, which
# uboot.env starts from the card's first partition, as U-Boot's standard boot would.
#
# What is chosen is kept in /slots.env there (U-Boot's format of an environment,
# 4096 bytes), with a copy in /slots.bak that is written before it, so that a
# power cut in the middle of writing one leaves the other. fw_printenv and
# fw_setenv read and write it from Linux. It is not U-Boot's own environment, which
# has one copy, and is never written (uboot.env).
#
#   slot_order   slots in the order they are tried, "a b"
#   slot_a_left  "good", or how often (1 to 9) a slot on trial may still be tried
#   slot_b_left
#   extraargs    added to Linux's command line
#
# Only for a slot on trial is anything written. With both files broken: both
# slots are good, a first.

setenv slot_vars slot_order slot_a_left slot_b_left extraargs
setenv slot_addr 0x02400000
setenv slot_size 0x1000
setenv boot_fdt 0x02600000
setenv boot_kernel 0x03000000
setenv boot_initrd 0x0c000000
# Where booti unpacks the kernel, before it moves it.
setenv kernel_comp_addr_r 0x08000000

setenv slots_read no
for file in slots.env slots.bak; do
	if test ${slots_read} = no; then
		if load ${devtype} ${devnum}:${distro_bootpart} ${slot_addr} ${file}; then
			if env import -c ${slot_addr} ${slot_size} ${slot_vars}; then
				setenv slots_read ${file}
			fi
		fi
	fi
done
echo "tuxwatch: slots from ${slots_read}: order ${slot_order}, a ${slot_a_left}, b ${slot_b_left}"

for round in chosen anything; do
	if test ${round} = anything; then
		echo "tuxwatch: nothing started; back to the defaults"
		setenv slot_order
		setenv slot_a_left
		setenv slot_b_left
		setenv extraargs
		setenv slot_save yes
	else
		setenv slot_save no
	fi
	if test -z "${slot_order}"; then setenv slot_order "a b"; fi
	if test -z "${slot_a_left}"; then setenv slot_a_left good; fi
	if test -z "${slot_b_left}"; then setenv slot_b_left good; fi

	for slot in ${slot_order}; do
		setenv slot_part
		if test ${slot} = a; then setenv slot_part 2; setenv slot_left ${slot_a_left}; fi
		if test ${slot} = b; then setenv slot_part 3; setenv slot_left ${slot_b_left}; fi
		setenv slot_try no
		if test -n "${slot_part}"; then
			if test ${slot_left} = good; then
				setenv slot_try yes
			elif test ${slot_left} -gt 0; then
				setenv slot_try yes
			else
				echo "tuxwatch: slot ${slot} has no tries left"
			fi
		fi
		if test ${slot_try} = yes; then
			if test -e ${devtype} ${devnum}:${slot_part} /boot/Image.gz; then
				if test ${slot_left} != good; then
					setexpr slot_left ${slot_left} - 1
					setenv slot_${slot}_left ${slot_left}
					setenv slot_save yes
				fi
				if test ${slot_save} = yes; then
					setenv slot_save no
					if env export -c -s ${slot_size} ${slot_addr} ${slot_vars}; then
						fatwrite ${devtype} ${devnum}:${distro_bootpart} ${slot_addr} slots.bak ${slot_size}
						fatwrite ${devtype} ${devnum}:${distro_bootpart} ${slot_addr} slots.env ${slot_size}
					fi
				fi
				part uuid ${devtype} ${devnum}:${slot_part} slot_uuid
				setenv bootargs "console=tty1 console=ttyS1,115200 root=PARTUUID=${slot_uuid} ro panic=10 loglevel=4 lsm=lockdown,landlock,yama tuxwatch.slot=${slot} ${extraargs}"
				echo "tuxwatch: starting slot ${slot} (${slot_left})"
				if load ${devtype} ${devnum}:${slot_part} ${boot_kernel} /boot/Image.gz; then
					setenv kernel_comp_size ${filesize}
					# Without a device tree for this board in the slot: the firmware's.
					setenv slot_fdt ${fdt_addr}
					if load ${devtype} ${devnum}:${slot_part} ${boot_fdt} /boot/dtb/${fdtfile}; then
						setenv slot_fdt ${boot_fdt}
					fi
					if load ${devtype} ${devnum}:${slot_part} ${boot_initrd} /boot/initrd.img; then
						booti ${boot_kernel} ${boot_initrd}:${filesize} ${slot_fdt}
					fi
				fi
				echo "tuxwatch: slot ${slot} does not start"
			else
				echo "tuxwatch: slot ${slot} is empty"
			fi
		fi
	done
done

echo "tuxwatch: no slot starts; trying again. If this goes on, write the card anew."
sleep 10
reset
