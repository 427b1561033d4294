"""Operations that views are made of: random crops, colours."""
