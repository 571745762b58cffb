#!/bin/sh
# mmdebstrap runs this with the new system's tree as last argument, once the essential packages are there and before
# all others come: so that they find our settings. $1 is the folder of our files.
set -eu
umask 022
exec cp -R "$1/." "$2/"
