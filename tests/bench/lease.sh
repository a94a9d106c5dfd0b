#!/bin/sh
# What `rentroll warmup` does, by hand: a key, a look at what is there, a create, a look every POLL_S seconds until the
# box is ready, and a first login. FOLDER, POLL_S and the emulator's variables come from the environment. Prints the id.
set -eu
key="$FOLDER/id_ed25519"
answer="$FOLDER/answer"
call() { curl --silent --fail --header "Authorization: Key $RENTROLL_FAL_KEY" "$@"; }
field() { sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p" "$answer"; }

ssh-keygen -q -t ed25519 -N '' -C rentroll -f "$key"
call "$RENTROLL_FAL_API_URL/compute/instances" >"$answer"
call --request POST --header 'Content-Type: application/json' --header "Idempotency-Key: $$-$(date +%s%N)" \
    --data "{\"instance_type\": \"gpu_1x_h100_sxm5\", \"ssh_key\": \"$(cat "$key.pub")\"}" \
    "$RENTROLL_FAL_API_URL/compute/instances" >"$answer"
id=$(field id)
while call "$RENTROLL_FAL_API_URL/compute/instances/$id" >"$answer" && [ "$(field status)" != ready ]; do
    sleep "$POLL_S"
done
ssh -i "$key" -p "$RENTROLL_FAL_SSH_PORT" -o IdentitiesOnly=yes -o BatchMode=yes -F none \
    -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile="$FOLDER/known_hosts" "ubuntu@$(field ip)" true
echo "$id" >"$FOLDER/id"
