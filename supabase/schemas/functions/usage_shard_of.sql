-- The shard of a tenant: CRC-32 (IEEE) of its UTF-8 bytes, modulo 256. The same number as every producer computes.
create or replace function worker.usage_shard_of(p_tenant text) returns int
language plpgsql immutable strict parallel safe security invoker set search_path = '' as $$
declare
  -- The CRC of each half byte: two steps per byte instead of eight.
  v_table constant bigint[] := array[0, 498536548, 997073096, 651767980, 1994146192, 1802195444, 1303535960, 1342533948,
    3988292384, 4027552580, 3604390888, 3412177804, 2607071920, 2262029012, 2685067896, 3183342108];
  v_bytes bytea := convert_to(p_tenant, 'UTF8');
  v_crc bigint := 4294967295;
begin
  for i in 0 .. length(v_bytes) - 1 loop
    v_crc := v_crc # get_byte(v_bytes, i);
    v_crc := (v_crc >> 4) # v_table[(v_crc & 15) + 1];
    v_crc := (v_crc >> 4) # v_table[(v_crc & 15) + 1];
  end loop;
  return (v_crc # 4294967295) % 256;
end $$;
revoke all on function worker.usage_shard_of from public, anon, authenticated;
grant execute on function worker.usage_shard_of to service_role;
