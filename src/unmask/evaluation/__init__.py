"""How good is this encoder?"""
