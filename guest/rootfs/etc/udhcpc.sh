#!/bin/sh
# Called by udhcpc with what it learned in the environment.
# shellcheck disable=SC2154
case $1 in
deconfig) ip addr flush dev "$interface" scope global; ip link set "$interface" up ;;
bound | renew)
	ip addr flush dev "$interface" scope global
	ip addr add "$ip/${mask:-24}" dev "$interface"
	[ -z "$router" ] || ip route replace default via "${router%% *}"
	for server in $dns; do echo "nameserver $server"; done >/etc/resolv.conf
	;;
esac
